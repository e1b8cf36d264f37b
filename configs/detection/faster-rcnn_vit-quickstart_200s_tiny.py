# Faster R-CNN on the blood cells that come with the package, over the encoder that "make pretrain" pretrains; from
# scratch with --cfg-options model.backbone.init_cfg=None.
_base_ = [
    '../_base_/backbones/vit-quickstart.py',
    './_base_/models/mask_rcnn_small.py',
    './_base_/datasets/tiny.py',
    '../_base_/schedules/steps_200.py',
    './_base_/runtime_steps.py',
]

model = dict(
    type='FasterRCNN',
    data_preprocessor=dict(pad_mask=False),
    backbone=dict(_base_.backbone, out_indices=(3,)),
    neck=dict(
        _delete_=True,
        type='mae_toolkit.SimplePyramid',
        in_channels=128,
        out_channels=64,
        scales=(2, 1, 0.5, 0.25),
        num_outs=5,
    ),
    roi_head=dict(bbox_head=dict(num_classes=3), mask_roi_extractor=None, mask_head=None),
)
default_hooks = dict(checkpoint=dict(interval=100))
