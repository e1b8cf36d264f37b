"""Law 10 for classification: the published numbers of fine-tuning and linear probing, against every config."""

import pytest
import torch

from mae_toolkit.apis import build_model, load_config

pytestmark = pytest.mark.slow

# FINETUNE.md and main_linprobe.py of facebookresearch/mae; TRAINING.md of ConvNeXt-V2; arXiv:2306.00989, appendix B;
# the configs of microsoft/SimMIM; downstream_imagenet of keyu-tian/SparK. `end`: the last learning rate over the first.
MAE = dict(batch=1024, weight_decay=0.05, betas=(0.9, 0.999), warmup=5, smoothing=0.1, mixup=(0.8, 1.0), erasing=0.25)
MAE |= dict(
    optimizer='AdamW', grouping='block', precision='AmpOptimWrapper', augment='RandAugment', ema=None, clip=None
)
FCMAE = MAE | dict(ema=1e-4)
SIMMIM = MAE | dict(batch=2048, lr=1.25e-3 * 2048 / 512, warmup=20, end=2e-4, clip=5.0)
SPARK = MAE | dict(batch=4096, weight_decay=0.01, warmup=20, end=1e-3, grouping='group', ema=1e-4)
SPARK |= dict(decay=0.7, precision='OptimWrapper', augment='TrivialAugment')
LIN = dict(
    batch=16384, lr=0.1 * 16384 / 256, weight_decay=0.0, warmup=10, end=0, smoothing=0.0, mixup=None, erasing=0.0
)
LIN |= dict(optimizer='Lars', decay=None, precision='AmpOptimWrapper', augment=None, ema=None, clip=None)
LIN |= dict(drop_path=0.0)
RECIPES = {
    'mae_ft_vit-b': MAE | dict(epochs=100, lr=2e-3, end=5e-4, decay=0.65, drop_path=0.1, width=768),
    'mae_ft_vit-l': MAE | dict(epochs=50, lr=4e-3, end=2.5e-4, decay=0.75, drop_path=0.2, width=1024),
    'mae_ft_vit-h': MAE | dict(epochs=50, lr=4e-3, end=2.5e-4, decay=0.75, drop_path=0.3, width=1280),
    'mae_lin_vit-b': LIN | dict(epochs=90, width=768),
    'mae_lin_vit-l': LIN | dict(epochs=50, width=1024),
    'mae_lin_vit-h': LIN | dict(epochs=50, width=1280),
    'fcmae_ft_convnextv2-a': FCMAE
    | dict(epochs=600, lr=8e-4, end=1.25e-3, decay=0.9, drop_path=0.1, width=320)
    | dict(warmup=0, weight_decay=0.3, mixup=None, smoothing=0.2),
    'fcmae_ft_convnextv2-t': FCMAE
    | dict(epochs=300, lr=3.2e-3, end=3.125e-4, decay=0.9, drop_path=0.2, width=768, warmup=40),
    'fcmae_ft_convnextv2-b': FCMAE
    | dict(epochs=100, lr=2.5e-3, end=4e-4, decay=0.6, drop_path=0.1, width=1024, warmup=20, grouping='group'),
    'hiera_ft_hiera-t': MAE | dict(epochs=300, lr=2e-3, end=5e-4, decay=0.65, drop_path=0.1, width=768),
    'hiera_ft_hiera-s': MAE | dict(epochs=200, lr=2e-3, end=5e-4, decay=0.65, drop_path=0.1, width=768),
    'hiera_ft_hiera-b': MAE | dict(epochs=100, lr=2e-3, end=5e-4, decay=0.7, drop_path=0.1, width=768),
    'hiera_ft_hiera-bplus': MAE | dict(epochs=100, lr=1e-3, end=1e-3, decay=0.7, drop_path=0.1, width=896),
    'hiera_ft_hiera-l': MAE | dict(epochs=50, lr=1e-3, end=1e-3, decay=0.85, drop_path=0.1, width=1152),
    'hiera_ft_hiera-h': MAE | dict(epochs=50, lr=1e-3, end=1e-3, decay=0.85, drop_path=0.3, width=2048),
    'simmim_ft_swin-b': SIMMIM | dict(epochs=100, decay=0.8, drop_path=0.1, width=1024),
    'simmim_ft_swin-l': SIMMIM | dict(epochs=100, decay=0.7, drop_path=0.2, width=1536),
    'spark_ft_convnext-s': SPARK | dict(epochs=400, lr=3.2e-3, drop_path=0.3, width=768),
    'spark_ft_convnext-b': SPARK | dict(epochs=400, lr=1.6e-3, drop_path=0.4, width=1024),
    'spark_ft_resnet-50': SPARK
    | dict(epochs=300, lr=0.032, drop_path=0.05, width=2048, optimizer='Lamb', weight_decay=0.02, betas=None)
    | dict(warmup=5, mixup=(0.1, 1.0)),
}


def configs(root):
    """Configs for ImageNet by their names without epochs and dataset."""
    found = sorted((root / 'configs' / 'classification').glob('*_imagenet.py'))
    return {path.stem.rsplit('_', 2)[0]: path for path in found}


def test_every_config_has_its_numbers(root):
    assert set(configs(root)) == set(RECIPES)


@pytest.mark.parametrize('name', RECIPES)
def test_the_recipe_is_as_published(root, name):
    path, want = configs(root)[name], RECIPES[name]
    cfg = load_config(path)
    optimizer, rules = cfg.optim_wrapper.optimizer, cfg.optim_wrapper.get('paramwise_cfg', {})
    assert int(path.stem.rsplit('_', 2)[1].removesuffix('e')) == cfg.train_cfg.max_epochs == want['epochs']
    assert cfg.auto_scale_lr.base_batch_size == want['batch']
    assert optimizer.type == want['optimizer'] and optimizer.lr == pytest.approx(want['lr'])
    assert optimizer.weight_decay == want['weight_decay']
    if want.get('betas') and 'betas' in optimizer:  # AdamW's own are these
        assert tuple(optimizer.betas) == want['betas']
    assert rules.get('decay_rate') == want['decay']
    assert rules.get('grouping', 'block') == want.get('grouping', 'block')
    assert cfg.optim_wrapper.type == want['precision']
    assert cfg.optim_wrapper.get('clip_grad', {}).get('max_norm') == want['clip']
    momenta = [hook.momentum for hook in cfg.get('custom_hooks', []) if hook.type == 'EMAHook']
    assert momenta == ([want['ema']] if want['ema'] else [])
    *warmup, cosine = cfg.param_scheduler
    assert [schedule.end for schedule in warmup] == ([want['warmup']] if want['warmup'] else [])
    assert cosine.begin == want['warmup']
    assert cosine.get('eta_min_ratio', 0) == pytest.approx(want['end'])
    crop, flip, *augment = cfg.train_dataloader.dataset.pipeline
    assert (crop.size, tuple(crop.scale), crop.interpolation, flip.prob) == (224, (0.08, 1.0), 'bicubic', 0.5)
    assert [a.type for a in augment] == ([want['augment']] if want['augment'] else [])


@pytest.mark.parametrize('name', RECIPES)
def test_the_model_is_as_published(root, name):
    cfg, want = load_config(configs(root)[name]), RECIPES[name]
    with torch.device('meta'):
        model = build_model(cfg)
    mixup = model.data_preprocessor.mixup
    assert (mixup and (mixup.mixup_alpha, mixup.cutmix_alpha)) == want['mixup']
    assert model.data_preprocessor.random_erasing == want['erasing']
    assert model.label_smoothing == want['smoothing']
    assert model.head.linear.weight.shape == (1000, want['width'])
    rates = [m.drop_prob for m in model.encoder.modules() if type(m).__name__ == 'DropPath']
    assert max(rates, default=0) == pytest.approx(want['drop_path'])
    assert len(model.encoder.out_channels) == 1 and model.encoder.fills_hidden is False
    probe = '_lin_' in name
    assert model.frozen == probe == hasattr(model.head, 'batch_norm')
    assert hasattr(model.head, 'norm') == (not probe and 'swin' not in name and 'resnet' not in name)
    if 'vit' in name:  # positions are trained, and the encoder's own norm is left out before pooling
        assert isinstance(model.encoder.body.norm, torch.nn.Identity) != probe
        assert model.encoder.body.pos_embed.requires_grad != probe


def test_hiera_pools_three_times_to_classify(root):
    with torch.device('meta'):
        encoder = build_model(load_config(configs(root)['hiera_ft_hiera-b'])).encoder
        (last,) = encoder(torch.empty(1, 3, 224, 224))
    pools = [i for i, block in enumerate(encoder.body.blocks) if block.attn.q_stride == 4]
    assert pools == [2, 5, 21]  # at the beginning of its stages of 2, 3, 16 and 3 blocks but the first
    assert encoder.out_strides == (32,) and last.shape == (1, 768, 7, 7)
