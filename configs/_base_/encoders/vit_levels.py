# CrossMAE's: the embedded patches and the output of every block, none of them normed.
encoder = dict(type='ViT', arch='vit_base_patch16_224', img_size=224, out_indices=(-1, *range(12)), final_norm=False)
