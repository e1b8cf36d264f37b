"""Masks by attention: the attention is timm's, and cells are drawn by it."""

import pytest
import timm
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, Masking
from mae_toolkit.registry import build
from parts import ENCODERS, SHARED, SIZE, VIT, images, make_encoder, randomized

NETWORK = {'type': 'ViT', **VIT}
SKEWED = torch.arange(1.0, 25).view(1, 4, 6)


def masking(**arguments):
    return build(Masking, {'type': 'AttentionMasking', 'network': NETWORK} | arguments)


def of_skewed(**arguments):
    """A masking by the same attention in every image: more and more in raster order."""
    made = masking(unit=8, **arguments)
    made.network.class_attention = lambda imgs, grid: SKEWED.expand(len(imgs), -1, -1)
    return made


def attention_of_timm(model, x):
    """The softmax (B, heads, N, N) in the last block of timm's model."""
    kept, attn = [], model.blocks[-1].attn
    attn.fused_attn = False
    attn.attn_drop.register_forward_hook(lambda module, inputs, output: kept.append(output))
    model.forward_features(x)
    return kept[0]


@pytest.mark.parametrize(
    ('arch', 'changes'),
    [
        ('vit_base_patch16_224', {}),
        ('vit_base_patch16_224', {'reg_tokens': 2, 'qk_norm': True}),
        ('vit_base_patch16_224', {'class_token': False}),
        ('vit_base_patch16_clip_224', {}),
        ('vit_base_patch16_rpn_224', {'class_token': False}),  # norms behind attention and MLP
        ('beit_base_patch16_224', {'init_values': 0.1}),
        ('beit_base_patch16_224', SHARED),
    ],
)
def test_the_attention_is_that_of_timm(arch, changes):
    ours = make_encoder('ViT', arch=arch, positions='learned', **changes).eval()
    own = {} if 'beit' in arch else {'fc_norm': False}
    theirs = timm.create_model(arch, num_classes=0, global_pool='', **VIT, **changes, **own).eval()
    theirs.load_state_dict({k.removeprefix('body.'): v for k, v in ours.state_dict().items()})
    softmax = attention_of_timm(theirs, images())
    prefix = theirs.num_prefix_tokens
    rows = softmax[:, :, :1] if changes.get('class_token', True) else softmax
    wanted = rows.mean((1, 2))[:, prefix:].unflatten(1, (4, 6))
    attention = ours.class_attention(images())
    torch.testing.assert_close(attention, wanted, rtol=1e-5, atol=1e-7)
    assert attention.std() > 1e-4


@pytest.mark.parametrize(
    ('arch', 'changes'),
    [
        ('vit_base_patch16_dinov3', {}),
        ('eva02_base_patch16_clip_224', {}),  # separate layers for q, k and v
        ('eva02_enormous_patch14_clip_224', {}),  # norms behind attention and MLP
        ('vit_small_patch16_rope_mixed_224', {}),
        ('vit_pe_core_gigantic_patch14_448', {}),  # no class token
        ('vit_base_patch16_sapiens2', {'num_heads': 4, 'num_kv_heads': 2, 'embed_dim': 32}),
    ],
)
def test_the_attention_with_rotary_positions_is_that_of_timm(arch, changes):
    changes = VIT | changes
    ours = randomized(build(Encoder, {'type': 'Eva', 'arch': arch, **changes})).eval()
    theirs = timm.create_model(arch, num_classes=0, global_pool='', dynamic_img_size=True, **changes).eval()
    theirs.load_state_dict({k.removeprefix('body.'): v for k, v in ours.state_dict().items()})
    softmax = attention_of_timm(theirs, images())
    rows = softmax if theirs.cls_token is None else softmax[:, :, :1]
    wanted = rows.mean((1, 2))[:, theirs.num_prefix_tokens :].unflatten(1, (4, 6))
    torch.testing.assert_close(ours.class_attention(images()), wanted, rtol=1e-5, atol=1e-7)


def test_the_most_attended_cells_are_hidden():
    mask = of_skewed(mode='hide', ratio=0.5)(images())
    assert torch.equal(mask.flatten(1), (SKEWED > 12).flatten(1).expand(2, -1))


def test_with_little_noise_the_most_attended_cells_are_kept():
    mask = of_skewed(mode='sample', ratio=0.5, noise=1e-6)(images())
    assert torch.equal(mask.flatten(1), (SKEWED <= 12).flatten(1).expand(2, -1))


@pytest.mark.parametrize(('mode', 'ratio'), [('sample', 0.95), ('hide', 0.05)])
def test_cells_are_drawn_with_their_attention_as_probability(mode, ratio):
    """One cell of 24 is visible, or hidden."""
    drawn = of_skewed(mode=mode, ratio=ratio, noise=1.0)
    masks = drawn(torch.zeros(20000, 1, *SIZE)).flatten(1)
    chosen = masks if mode == 'hide' else ~masks
    assert (chosen.sum(1) == drawn.count_hidden(24) if mode == 'hide' else chosen.sum(1) == 1).all()
    if mode == 'sample':
        share = chosen.float().mean(0)
        wanted = SKEWED.flatten() / SKEWED.sum()
        assert ((share - wanted).abs() < 4.5 * (wanted / 20000).sqrt()).all()


def test_draws_are_without_replacement():
    """The chance that a cell is among two that are drawn, one after the other."""
    drawn = of_skewed(mode='sample', ratio=0.9)  # int(24 * 0.1) = 2 are visible
    share = (~drawn(torch.zeros(20000, 1, *SIZE))).flatten(1).float().mean(0)
    p = SKEWED.flatten() / SKEWED.sum()
    wanted = p + p * ((p / (1 - p)).sum() - p / (1 - p))
    assert ((share - wanted).abs() < 4.5 * (wanted / 20000).sqrt()).all()


@pytest.mark.parametrize(('patch', 'unit'), [(8, 8), (8, 16), (16, 8), (14, 16), (14, 8)])
def test_any_stride_of_the_network_and_any_unit(patch, unit):
    made = masking(network={**NETWORK, 'patch_size': patch}, unit=unit, mode='hide', ratio=0.5)
    made = randomized_network(made)
    h, w = SIZE[0] // unit, SIZE[1] // unit
    fine = 2 if (patch, unit) == (8, 16) else 1
    attention = made.network.encoder.class_attention(
        torch.nn.functional.interpolate(
            images(), size=(h * fine * patch, w * fine * patch), mode='bicubic', antialias=True
        )
        if (patch, unit) not in ((8, 8), (8, 16))
        else images()
    )
    cells = attention.unflatten(1, (h, fine)).unflatten(3, (w, fine)).mean((2, 4))
    torch.testing.assert_close(made.score(images(), h, w), cells.log(), rtol=1e-4, atol=1e-4)
    assert (made(images()).flatten(1).sum(1) == h * w // 2).all()


def randomized_network(made):
    """Random weights also where a frozen network has none to train."""
    made.network.encoder.requires_grad_(True)
    randomized(made.network.encoder)
    made.network.encoder.requires_grad_(False)
    return made


@pytest.mark.parametrize(
    ('arguments', 'words'),
    [
        ({'network': {'type': 'SparseCNN', 'arch': 'resnet18'}}, 'SparseCNN has no attention to mask by'),
        ({'network': {'type': 'timm', 'arch': 'resnet18'}}, 'TimmNetwork has no attention to mask by'),
        ({'network': ENCODERS['ViT, windows and relative positions'] | {'global_blocks': ()}}, 'within windows'),
        ({'network': {**NETWORK, 'arch': 'vit_small_patch16_18x2_224'}}, 'ParallelThingsBlock has no attention'),
        ({'mode': 'show'}, "mode='show' must be"),
        ({'noise': -1}, 'noise=-1'),
        ({'in_chans': 1}, 'have 1 channels, and the network .* takes 3'),
        ({'ratio': 1.5}, 'ratio=1.5'),
    ],
)
def test_what_is_refused(arguments, words):
    with pytest.raises(UserError, match=words):
        masking(**arguments)


def test_a_global_last_block_with_relative_positions_can_be_asked():
    encoder = make_encoder('ViT, windows and relative positions').eval()
    attention = encoder.class_attention(images())
    assert attention.shape == (2, 4, 6)
    torch.testing.assert_close(attention.sum((1, 2)), torch.ones(2))
