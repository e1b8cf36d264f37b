# GreenMIM goes on from public weights of a Swin, on your own images: set data_root, the folder that holds them.
_base_ = ['../pretrain/custom/swin.py', '../_base_/schedules/continue.py']

weights = 'timm:swin_tiny_patch4_window7_224.ms_in1k'  # what the encoder begins with: [FORMAT:]FILE[#PART]
arch = 'swin_tiny_patch4_window7_224'  # that of the weights
epochs = 10  # a few hundred steps with a few thousand images, which is what docs/continue.md measured
wait_steps = 30  # the fresh decoder trains alone at first
base_lr = 1e-3  # of the decoder, for 256 images per step: at 64, the encoder's is a tenth of MAE's 1.5e-4

optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
