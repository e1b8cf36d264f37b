# ViT-B of DINOv2 for detectors and segmenters, by Meta's file of its weights or by timm's. Its patches have 14 pixels,
# so configs add a SimplePyramid with scale_factor=14 / 16, which gives heads the strides that they expect. With
# window_size, which a config may set, there is no class token.
backbone = dict(
    type='mae_toolkit.ViT',
    arch='vit_base_patch14_dinov2',
    img_size=518,
    positions='learned',
    final_norm=False,
    drop_path_rate=0.1,
    init_cfg=dict(type='Pretrained', checkpoint='checkpoints/dinov2_vitb14_pretrain.pth'),
)
