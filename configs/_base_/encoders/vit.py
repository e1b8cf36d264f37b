encoder = dict(type='ViT', arch='vit_base_patch16_224', img_size=224)
