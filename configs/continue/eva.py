# MAE goes on from public weights of a ViT with rotary positions, on your own images: set data_root, their folder.
_base_ = ['../pretrain/custom/eva.py', '../_base_/schedules/continue.py']

weights = (
    'timm:vit_small_patch16_dinov3.lvd1689m'  # what the encoder begins with: [FORMAT:]FILE[#PART]; docs/weights.md
)
arch = 'vit_small_patch16_dinov3'  # that of the weights
epochs = 10  # a few hundred steps with a few thousand images, which is what docs/continue.md measured
wait_steps = 30  # the fresh decoder trains alone at first
base_lr = 1e-3  # of the decoder, for 256 images per step: at 64, the encoder's is a tenth of MAE's 1.5e-4

optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
