# As spark_lite0.py, from ImageNet's weights.
_base_ = './spark_lite0.py'

lr = 1e-4
model = dict(
    encoder=dict(
        norm_eval=True,
        init_cfg=dict(type='Pretrained', checkpoint='work_dirs/pretrained/efficientnet-lite0.pth'),
    ),
)
