# A small ViT for the small sets: patches of 8 pixels, six blocks.
encoder = dict(type='ViT', arch='vit_tiny_patch16_224', patch_size=8, embed_dim=128, depth=6, num_heads=4, img_size=96)
