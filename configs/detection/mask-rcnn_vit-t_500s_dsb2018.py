# Mask R-CNN on nuclei, over a small plain transformer, as ViTDet (arXiv:2203.16527): attention within windows, in all
# but two blocks, and a pyramid from the last map. Patches of 8 pixels, as nuclei are small.
_base_ = './mask-rcnn_convnextv2-a_500s_dsb2018.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mae_toolkit.ViT',
        arch='vit_tiny_patch16_224',
        patch_size=8,
        depth=6,
        img_size=192,
        window_size=8,
        global_blocks=(2, 5),
        rel_pos=True,
    ),
    neck=dict(
        _delete_=True,
        type='mae_toolkit.SimplePyramid',
        in_channels=192,
        out_channels=64,
        scales=(2, 1, 0.5, 0.25),
        num_outs=5,
    ),
)
