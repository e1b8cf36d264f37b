"""Traps of published code that no other test covers; docs/traps.md lists all of them with their tests."""

import re

import pytest
import torch

from mae_toolkit.models import Encoder, MaskedAutoencoder
from mae_toolkit.models.mask_ops import hide, upsample
from mae_toolkit.registry import build
from parts import DECODERS, ENCODERS, images, make_model

LISTED = re.compile(r'`(test_\w+\.py)::(test_\w+)`')


def test_every_test_that_the_list_of_traps_names_exists(root):
    named = LISTED.findall((root / 'docs' / 'traps.md').read_text())
    assert len(named) > 50
    missing = []
    for file, name in named:
        path = root / 'tests' / file
        if not path.exists() or not re.search(rf'^def {name}\(', path.read_text(), re.M):
            missing.append(f'{file}::{name}')
    assert not missing


def test_every_trap_has_a_test_or_a_reason(root):
    rows = [line for line in (root / 'docs' / 'traps.md').read_text().splitlines() if line.startswith('| ')]
    last = [row.strip('| ').split(' | ')[-1] for row in rows if not row.startswith('| trap')]
    assert last and all(LISTED.search(cell) or cell.startswith('cannot befall us') for cell in last)


@pytest.mark.parametrize(
    ('encoder', 'decoder'),
    [*((name, 'TransformerDecoder') for name in ENCODERS), *(('Swin with a mask token', name) for name in DECODERS)],
)
def test_fresh_weights_are_small(encoder, decoder):
    """A deviation of 1, which some official code draws, is far above what any layer of 8 inputs or more starts with."""
    objective = {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}
    parts = ENCODERS[encoder], {'type': 'RandomMasking'}, DECODERS[decoder], {'pixel': objective}
    weights = {name: p for name, p in MaskedAutoencoder(*parts).named_parameters() if p.requires_grad and p.dim() > 1}
    large = [name for name, p in weights.items() if p[0].numel() >= 8 and p.std() > 0.8]
    assert not [name for name in large if not name.endswith('level_weights')]  # CrossMAE's, of so few levels


@pytest.mark.parametrize('encoder', ['ConvNeXt V2', 'SparseCNN', 'Hiera', 'Swin', 'ViT'])
def test_a_border_that_is_hidden_in_every_image(encoder):
    """The last row and column are part of the map, also where no image shows anything of them."""
    model = make_model(encoder, masking={'type': 'RandomMasking', 'unit': 16})
    imgs = images(size=(48, 64))
    mask = torch.zeros(2, 1, 3, 4, dtype=torch.bool)
    mask[:, :, -1] = mask[..., -1] = True
    for x, stride in zip(model.encoder(hide(imgs, mask), mask), model.encoder.out_strides, strict=True):
        assert x.shape[-2:] == (48 // stride, 64 // stride)
        assert torch.equal((x != 0).any(1, keepdim=True), ~upsample(mask, x.shape[-2:]))
    assert torch.isfinite(model(imgs, mask=mask, mode='loss')['loss_pixel'])


def test_a_class_token_has_no_position():
    encoder = build(Encoder, ENCODERS['ViT'])
    assert not encoder.body.pos_embed[:, 0].any() and encoder.body.pos_embed[:, 1:].any()


def test_windows_are_no_larger_than_the_map():
    """SimMIM's Swin-L: windows of 12, and a last map of 6 x 6."""
    with torch.device('meta'):
        swin = dict(type='Swin', arch='swin_large_patch4_window7_224', img_size=192, window_size=12, mask_token=True)
        layers = build(Encoder, swin).body.layers
    attentions = [stage.blocks[0].attn for stage in layers]
    assert [attn.window_size for attn in attentions] == [(12, 12)] * 3 + [(6, 6)]
    assert [len(attn.relative_position_bias_table) for attn in attentions] == [23**2] * 3 + [11**2]
