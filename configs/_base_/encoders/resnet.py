# All four stages of a ResNet-50; statistics of its batch norms are those of what is visible in all processes.
encoder = dict(type='SparseCNN', arch='resnet50', out_indices=(1, 2, 3, 4), sync_bn=True, drop_path_rate=0.05)
