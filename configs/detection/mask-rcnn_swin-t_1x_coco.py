# Mask R-CNN over Swin-T, 12 epochs of 16 images (arXiv:2103.14030, section 4.2). From a supervised Swin-T: box AP 42.7,
# mask AP 39.3 (MMDetection).
_base_ = [
    './_base_/models/mask_rcnn_fpn.py',
    './_base_/datasets/coco.py',
    './_base_/schedules/epochs_12.py',
    './_base_/runtime.py',
]

model = dict(
    backbone=dict(
        type='mae_toolkit.Swin',
        arch='swin_tiny_patch4_window7_224',
        img_size=1024,
        window_size=7,
        out_indices=(0, 1, 2, 3),
        out_norms=True,
        final_norm=False,
        drop_path_rate=0.2,
    ),
    neck=dict(in_channels=[96, 192, 384, 768]),
)
