# ViT-B for detectors and segmenters, pretrained by MAE, with relative positions. The config that uses it gives img_size
# and the blocks whose maps it reads, or which of them attend within windows.
backbone = dict(
    type='mae_toolkit.ViT',
    arch='vit_base_patch16_224',
    positions='learned',
    rel_pos=True,
    final_norm=False,
    drop_path_rate=0.1,
    init_cfg=dict(type='Pretrained', checkpoint='work_dirs/mae_vit-b_1600e_imagenet/epoch_1600.pth', prefix='encoder'),
)
