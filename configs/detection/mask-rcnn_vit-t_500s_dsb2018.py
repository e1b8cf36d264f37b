# Mask R-CNN on nuclei, over a small plain transformer, like ViTDet (arXiv:2203.16527): attention within windows, in all
# but two blocks, and a pyramid from the last map. Patches of 8 pixels, as nuclei are small.
_base_ = [
    './_base_/models/mask_rcnn_small.py',
    './_base_/datasets/dsb2018.py',
    '../_base_/schedules/steps_500.py',
    './_base_/runtime_steps.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.ViT',
        arch='vit_tiny_patch16_224',
        patch_size=8,
        depth=6,
        img_size=_base_.crop,
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
    rpn_head=dict(anchor_generator=dict(scales=[4])),
    roi_head=dict(bbox_head=dict(num_classes=1), mask_head=dict(num_classes=1)),
    test_cfg=dict(rpn=dict(nms_pre=1000, max_per_img=500), rcnn=dict(max_per_img=400)),
)
