# CrossMAE, ViT-B/16, for tools/benchmark.py: a third of the hidden cells is decoded, by cross-attention.
_base_ = '../pretrain/mae/mae_vit-b_800e_imagenet.py'

model = dict(
    encoder=dict(out_indices=(-1, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11), final_norm=False),
    masking=dict(ratio=0.75, predict_ratio=0.25),
    decoder=dict(_delete_=True, type='CrossAttentionDecoder', embed_dim=512, depth=12, num_heads=16),
)
