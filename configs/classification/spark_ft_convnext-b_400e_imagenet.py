# SparK's fine-tuning of ConvNeXt-B: 4096 images per step. Published: 84.8% top-1, with every image augmented three
# times in an epoch, which this does not do.
_base_ = [
    '../_base_/datasets/imagenet_spark_labeled.py',
    '../_base_/schedules/finetune_spark.py',
    '../_base_/runtime_classification.py',
]

model = dict(
    type='Classifier',
    data_preprocessor={{_base_.data_preprocessor}},
    encoder=dict(
        type='ConvNeXt',
        arch='convnext_base',
        drop_path_rate=0.4,
        init_cfg=dict(
            type='Pretrained', checkpoint='work_dirs/spark_convnext-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'
        ),
    ),
    num_classes=1000,
    pooling='mean',
    head_norm=True,
    label_smoothing=0.1,
)
