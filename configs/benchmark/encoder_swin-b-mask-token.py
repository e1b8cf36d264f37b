# The encoder Swin-B as SimMIM runs it, for tools/benchmark.py: all tokens, the hidden ones by a mask token.
_base_ = '../pretrain/mae/mae_vit-b_800e_imagenet.py'

model = dict(
    encoder=dict(_delete_=True, type='Swin', arch='swin_base_patch4_window7_224', img_size=224, mask_token=True),
    masking=dict(ratio=0.75),
)
