# The encoder of configs/pretrain/quickstart.py for detectors and segmenters: the maps of its four blocks, of stride 8.
backbone = dict(
    type='mae_toolkit.ViT',
    arch='vit_tiny_patch16_224',
    patch_size=8,
    embed_dim=128,
    depth=4,
    num_heads=4,
    img_size=192,
    out_indices=(0, 1, 2, 3),
    init_cfg=dict(type='Pretrained', checkpoint='work_dirs/quickstart/epoch_20.pth', prefix='encoder'),
)
