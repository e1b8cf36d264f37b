# UperNet over ConvNeXt-B, with the recipe of ConvNeXt (arXiv:2201.03545), whose layer decay goes by
# stages; here by its 12 groups of blocks. SparK has published no segmentation.
_base_ = [
    '../_base_/backbones/convnext-b_spark.py',
    './_base_/models/upernet.py',
    './_base_/datasets/ade20k.py',
    './_base_/schedules/steps_160k.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=_base_.backbone,
    decode_head=dict(in_channels=[128, 256, 512, 1024]),
    auxiliary_head=dict(in_channels=512),
)
optim_wrapper = dict(paramwise_cfg=dict(grouping='group'))
