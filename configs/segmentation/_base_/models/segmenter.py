# What all segmenters share: images of ImageNet's statistics in crops of 512 pixels, and whole images in testing.
model = dict(
    type='EncoderDecoder',
    data_preprocessor=dict(
        type='SegDataPreProcessor',
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        seg_pad_val=255,
        size=(512, 512),
    ),
    test_cfg=dict(mode='whole'),
)
