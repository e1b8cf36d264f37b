# MaskFeat's: all tokens, learned positions, a mask token where it is hidden.
encoder = dict(type='ViT', arch='vit_base_patch16_224', img_size=224, positions='learned', mask_token=True)
