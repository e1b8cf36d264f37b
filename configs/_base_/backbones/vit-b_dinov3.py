# ViT-B of DINOv3 for detectors and segmenters, by Meta's file of its weights or by timm's. Within windows, which the
# config that uses it may give, there are no class and register tokens; without windows there are, as in pretraining.
backbone = dict(
    type='mae_toolkit.Eva',
    arch='vit_base_patch16_dinov3',
    final_norm=False,
    drop_path_rate=0.1,
    init_cfg=dict(type='Pretrained', checkpoint='checkpoints/dinov3_vitb16_pretrain_lvd1689m.pth'),
)
