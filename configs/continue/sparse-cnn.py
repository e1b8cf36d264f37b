# SparK goes on from public weights of a CNN with batch norms, on your own images: set data_root, the folder that holds
# them.
_base_ = ['../pretrain/custom/sparse-cnn.py', '../_base_/schedules/continue.py']

weights = 'timm:tf_efficientnet_lite0.in1k'  # what the encoder begins with: [FORMAT:]FILE[#PART]; docs/weights.md
arch = 'tf_efficientnet_lite0'  # that of the weights
decoder_dim = 128  # for an encoder of this size
mean = [127.5, 127.5, 127.5]  # with which these weights were trained
std = [127.5, 127.5, 127.5]  # with which these weights were trained
epochs = 10  # a few hundred steps with a few thousand images, which is what docs/continue.md measured
wait_steps = 30  # the fresh decoder trains alone at first
base_lr = 2e-3  # 1e-3 for the decoder at 64 images per step; a thirtieth of it for the encoder
norm_eval = True  # batch norms keep the statistics of the weights: those of own images, masked or whole, lose accuracy

model = dict(encoder=dict(norm_eval=norm_eval))
optim_wrapper = dict(paramwise_cfg=_base_.paramwise_cfg)
