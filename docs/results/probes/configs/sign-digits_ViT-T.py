default_scope = 'mae_toolkit'
model = dict(
    data_preprocessor=dict(
        mean=[
            123.675,
            116.28,
            103.53,
        ], std=[
            58.395,
            57.12,
            57.375,
        ]),
    encoder=dict(arch='vit_tiny_patch16_224', img_size=192, type='ViT'))
val_dataloader = dict(
    dataset=dict(pipeline=[
        dict(interpolation='bicubic', size=219, type='Resize'),
        dict(size=[
            192,
            192,
        ], type='CenterCrop'),
    ]))
