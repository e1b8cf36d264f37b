# Cascade Mask R-CNN (arXiv:1906.09756): three box heads in a row, each for closer boxes.
_base_ = './mask_rcnn_fpn.py'

stages = [  # the least overlap of a box with its object, and the spread of the offsets
    dict(overlap=0.5, stds=[0.1, 0.1, 0.2, 0.2]),
    dict(overlap=0.6, stds=[0.05, 0.05, 0.1, 0.1]),
    dict(overlap=0.7, stds=[0.033, 0.033, 0.067, 0.067]),
]
model = dict(
    type='CascadeRCNN',
    rpn_head=dict(loss_bbox=dict(_delete_=True, type='SmoothL1Loss', beta=1.0 / 9.0)),
    roi_head=dict(
        type='CascadeRoIHead',
        num_stages=3,
        stage_loss_weights=[1, 0.5, 0.25],
        bbox_head=[
            dict(
                type='Shared2FCBBoxHead',
                in_channels=256,
                fc_out_channels=1024,
                roi_feat_size=7,
                num_classes=80,
                bbox_coder=dict(type='DeltaXYWHBBoxCoder', target_means=[0.0] * 4, target_stds=stage['stds']),
                reg_class_agnostic=True,
                loss_cls=dict(type='CrossEntropyLoss', use_sigmoid=False),
                loss_bbox=dict(type='SmoothL1Loss', beta=1.0),
            )
            for stage in stages
        ],
    ),
    train_cfg=dict(
        rcnn=[
            dict(
                assigner=dict(
                    type='MaxIoUAssigner',
                    pos_iou_thr=stage['overlap'],
                    neg_iou_thr=stage['overlap'],
                    min_pos_iou=stage['overlap'],
                    match_low_quality=False,
                ),
                sampler=dict(type='RandomSampler', num=512, pos_fraction=0.25, neg_pos_ub=-1, add_gt_as_proposals=True),
                mask_size=28,
                pos_weight=-1,
                debug=False,
            )
            for stage in stages
        ],
    ),
)
