"""Law 10: the published numbers, against every config that bears the method's name."""

import pytest
import torch

from mae_toolkit.apis import build_model, load_config
from mae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS

# MAE, arXiv:2111.06377, appendix A.1 (tables 8 and 9), and the official PRETRAIN.md.
ARCHS = {
    't': dict(embed_dim=192, depth=12, num_heads=3, patch=16),
    's': dict(embed_dim=384, depth=12, num_heads=6, patch=16),
    'b': dict(embed_dim=768, depth=12, num_heads=12, patch=16),
    'l': dict(embed_dim=1024, depth=24, num_heads=16, patch=16),
    'h': dict(embed_dim=1280, depth=32, num_heads=16, patch=14),
}


def configs(root):
    """All ImageNet configs of MAE."""
    return sorted((root / 'configs' / 'pretrain').glob('mae_vit-*_imagenet.py'))


def test_every_size_has_a_config(root):
    assert {path.stem.split('_')[1].removeprefix('vit-') for path in configs(root)} == set(ARCHS)


def test_mae_is_as_published(root):
    for path in configs(root):
        cfg = load_config(path)
        _, _, epochs, _ = path.stem.split('_')
        optimizer = cfg.optim_wrapper.optimizer
        assert cfg.auto_scale_lr.base_batch_size == 4096
        assert optimizer.lr == pytest.approx(1.5e-4 * 4096 / 256)
        assert (optimizer.type, tuple(optimizer.betas), optimizer.weight_decay) == ('AdamW', (0.9, 0.95), 0.05)
        assert cfg.optim_wrapper.type == 'AmpOptimWrapper'
        assert 'clip_grad' not in cfg.optim_wrapper
        assert cfg.train_cfg.max_epochs == int(epochs.removesuffix('e'))
        warmup, cosine = cfg.param_scheduler
        assert (warmup.type, warmup.begin, warmup.end) == ('LinearLR', 0, 40)
        assert (cosine.type, cosine.begin, cosine.eta_min) == ('CosineAnnealingLR', 40, 0)
        assert 'T_max' not in cosine  # the end follows from max_epochs
        crop, flip = cfg.train_dataloader.dataset.pipeline
        assert (crop.size, tuple(crop.scale), crop.interpolation) == (224, (0.2, 1.0), 'bicubic')
        assert flip.prob == 0.5
        model = cfg.model
        assert model.masking.ratio == 0.75
        assert (model.decoder.embed_dim, model.decoder.depth, model.decoder.num_heads) == (512, 8, 16)
        assert model.objectives.pixel.target.norm_pix
        assert [loss.type for loss in model.objectives.pixel.losses] == ['MaskedL2Loss']


@pytest.mark.parametrize('size', ARCHS)
def test_encoders_have_the_published_widths(root, size):
    cfg = load_config(root / f'configs/pretrain/mae_vit-{size}_800e_imagenet.py')
    with torch.device('meta'):
        body = build_model(cfg).encoder.body
    expected = ARCHS[size]
    assert (body.embed_dim, len(body.blocks)) == (expected['embed_dim'], expected['depth'])
    assert body.blocks[0].attn.num_heads == expected['num_heads']
    assert body.patch_embed.patch_size == (expected['patch'],) * 2
    assert body.blocks[0].norm1.eps == 1e-6
    assert not body.pos_embed.requires_grad
    assert body.cls_token is not None


def test_drop_path_is_off_and_tokens_are_decayed(root):
    cfg = load_config(root / 'configs/pretrain/mae_vit-t_800e_imagenet.py')
    model = build_model(cfg)
    assert all(getattr(block.drop_path1, 'drop_prob', 0.0) == 0 for block in model.encoder.body.blocks)
    wrapper = dict(type='OptimWrapper', optimizer=cfg.optim_wrapper.optimizer)
    constructor = OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=cfg.optim_wrapper.constructor, optim_wrapper_cfg=wrapper))
    decay = {id(p): g['weight_decay'] for g in constructor(model).optimizer.param_groups for p in g['params']}
    for name, p in model.named_parameters():
        if p.requires_grad:
            exempt = name.endswith('.bias') or 'norm' in name
            assert decay[id(p)] == (0.0 if exempt else 0.05), name


def test_the_custom_config_asks_for_one_path(root, tmp_path):
    text = (root / 'configs/pretrain/mae_vit-b_custom.py').read_text()
    assert text.count("'data/my_images'") == 1
    cfg = load_config(root / 'configs/pretrain/mae_vit-b_custom.py')
    assert cfg.train_dataloader.dataset.data_root == 'data/my_images'
    assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1.5e-4 * cfg.train_dataloader.batch_size / 256)
