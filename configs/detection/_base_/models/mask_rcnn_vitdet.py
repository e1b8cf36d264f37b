# ViTDet (arXiv:2203.16527): Mask R-CNN over a plain ViT of 12 blocks and 768 channels, three of four blocks within
# windows, on squares of 1024 pixels. A config that inherits this one gives the backbone.
_base_ = './mask_rcnn_fpn.py'

norm = dict(type='mae_toolkit.LayerNorm2d')
model = dict(
    backbone=dict(img_size=1024, window_size=14, global_blocks=(2, 5, 8, 11)),
    neck=dict(_delete_=True, type='mae_toolkit.SimplePyramid', in_channels=768, out_channels=256, num_outs=5),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', conv_out_channels=256, norm_cfg=norm),
        mask_head=dict(norm_cfg=norm),
    ),
)
