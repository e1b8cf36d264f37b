# Hiera-B as it is pretrained: two of its three poolings, so that the last map has stride 16; stages 1, 2 and 4.
encoder = dict(type='Hiera', arch='hiera_base_224', img_size=224, q_pool=2, out_indices=(0, 1, 3), drop_path_rate=0.2)
