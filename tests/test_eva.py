"""Eva is timm's: of all its kinds of blocks and positions, with hidden tokens, and within windows."""

import pytest
import timm
import torch
from torch import nn

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.errors import UserError
from mae_toolkit.export.timm import build_timm_model, find_timm_model, to_timm
from mae_toolkit.models import Cells, Encoder, Eva
from mae_toolkit.models.encoders.architectures import make_encoder_config
from mae_toolkit.models.mask_ops import hide
from mae_toolkit.registry import build
from parts import DINOV3, ENCODERS, VIT, images, make_encoder, randomized

# One of each kind, of two or three small blocks.
ARCHS = {
    'vit_base_patch16_dinov3': {},  # no biases of q, k and v
    'vit_small_patch16_dinov3_qkvb': {},
    'vit_giant_patch16_lingbot': {},  # SwiGLU
    'vit_tiny_patch16_dinov3_qkvb': {},  # EUPE
    'eva_giant_patch14_224': {},  # no rotations
    'eva02_base_patch14_448': {'ref_feat_shape': (2, 3)},  # a norm within the MLP, and within attention
    'eva02_base_patch16_clip_224': {'ref_feat_shape': (2, 3)},  # separate layers for q, k and v
    'eva02_enormous_patch14_clip_224': {},  # norms behind attention and MLP
    'vit_pe_core_base_patch16_224': {},  # attention pooling, which is left out
    'vit_pe_core_gigantic_patch14_448': {},  # no class token
    'vit_pe_lang_large_patch14_448': {},  # no last norm
    'vit_medium_patch16_rope_reg1_gap_256': {},  # a register and no class token
    'vit_small_patch16_rope_224': {},
    'vit_small_patch16_rope_ape_224': {},
    'vit_small_patch16_rope_mixed_224': {},
    'vit_base_patch16_sapiens2': {'depth': 3, 'num_kv_heads': (6, 3, 6)},  # grouped queries
}


def pair(arch, **changes):
    """An encoder in float64, and timm's own model of its weights."""
    changes = {**VIT, **changes, 'embed_dim': 48, 'num_heads': 6}
    encoder = randomized(build(Encoder, {'type': 'Eva', 'arch': arch, **changes})).double().eval()
    theirs = timm.create_model(arch, num_classes=0, global_pool='', dynamic_img_size=True, **changes).double().eval()
    theirs.load_state_dict({name.removeprefix('body.'): value for name, value in encoder.state_dict().items()})
    return encoder, theirs


def close(a, b):
    torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize('arch', ARCHS)
def test_each_kind_is_timms(arch):
    """At another size than that of the positions; and of the visible tokens, with the hidden ones masked in timm."""
    encoder, theirs = pair(arch, **ARCHS[arch])
    x = images(size=(40, 56)).double()
    seen = encoder.encode(x)
    tokens, num_prefix = theirs.forward_features(x), theirs.num_prefix_tokens
    close(seen.maps[0], tokens[:, num_prefix:].mT.unflatten(2, (5, 7)))
    assert (seen.prefixes[0] is None) == (num_prefix == 0)
    if num_prefix:
        close(seen.prefixes[0], tokens[:, :num_prefix])

    mask = torch.rand(2, 5 * 7, generator=torch.Generator().manual_seed(0)).argsort(1) >= 12  # 12 of 35 are visible
    mask = mask.view(2, 1, 5, 7)
    visible = nn.functional.pad(~mask.flatten(1), (num_prefix, 0), value=True)  # (B, P+L)
    tokens = theirs.forward_features(x, attn_mask=visible[:, None, None])[:, num_prefix:]
    expected = hide(tokens.mT.unflatten(2, (5, 7)), mask)
    close(encoder.encode(x, Cells(mask)).maps[0], expected)


@pytest.mark.parametrize('name', ['Eva, windows', 'DINOv3'])
@pytest.mark.parametrize('size', [(32, 48), (40, 56), (64, 64)])
def test_windows_are_timms_network_that_does_not_see_the_others(name, size):
    """In blocks 0 and 2; the windows of 3 x 3 tokens do not divide the maps."""
    config = ENCODERS.get(name, {'type': 'Eva', **DINOV3}) | {'depth': 3, 'out_indices': (0, 1, 2), 'final_norm': False}
    encoder = build(Encoder, config | {'window_size': 3, 'global_blocks': 1})
    encoder = randomized(encoder).double().eval()
    h, w = size[0] // 8, size[1] // 8
    window = torch.arange(h)[:, None] // 3 * w + torch.arange(w) // 3
    same = window.flatten()[:, None] == window.flatten()
    body, x = encoder.body, images(size=size).double()
    tokens, rope = body._pos_embed(body.patch_embed(x))
    levels = []
    for i, block in enumerate(body.blocks):
        tokens = block(tokens, rope=rope[i] if body.rope_mixed else rope, attn_mask=None if i == 1 else same)
        levels.append(tokens.mT.unflatten(2, (h, w)))
    for a, b in zip(encoder(x), levels, strict=True):
        close(a, b)
    none = torch.zeros(2, 1, h, w, dtype=torch.bool)
    for a, b in zip(encoder(x, none), levels, strict=True):
        close(a, b)


def test_what_is_dropped_and_recomputed():
    """Drop path is timm's; with_cp gives the same gradients, those of learned rotations, too."""
    config = ENCODERS['Eva, rotations learned for each block'] | {'drop_path_rate': 0.5}
    grads = []
    for with_cp in (False, True):
        encoder = randomized(build(Encoder, config | {'with_cp': with_cp})).train()
        assert [getattr(block.drop_path1, 'drop_prob', 0) for block in encoder.body.blocks] == [0, 0.5]
        torch.manual_seed(0)
        encoder(images())[0].square().sum().backward()
        grads.append({name: p.grad for name, p in encoder.named_parameters()})
    assert grads[0]['body.rope.freqs'].any()
    for name, grad in grads[0].items():
        torch.testing.assert_close(grads[1][name], grad)


def test_coordinates_are_augmented_in_training_alone():
    encoder = randomized(build(Encoder, {'type': 'Eva', **DINOV3, 'rope_rescale_coords': 2.0}))
    assert not torch.equal(encoder.train()(images())[0], encoder(images())[0])
    assert torch.equal(encoder.eval()(images())[0], encoder(images())[0])
    frozen = randomized(build(Encoder, {'type': 'Eva', **DINOV3, 'rope_rescale_coords': 2.0, 'frozen_stages': 0}))
    assert torch.equal(frozen.train()(images())[0], frozen(images())[0])


def test_depths_and_what_is_not_decayed():
    encoder = make_encoder('Eva, rotations learned for each block')
    depths = {name: encoder.layer_depth(name)[0] for name, _ in encoder.named_parameters()}
    assert {name for name, depth in depths.items() if depth == 0} == {
        'body.patch_embed.proj.weight', 'body.patch_embed.proj.bias', 'body.cls_token', 'body.pos_embed',
        'body.rope.freqs',
    }  # fmt: skip
    assert depths['body.blocks.1.gamma_2'] == 2 and depths['body.norm.weight'] == 3
    assert encoder.no_weight_decay() == {'body.cls_token', 'body.pos_embed', 'body.rope.freqs'}
    dinov3 = make_encoder('Eva, DINOv3', mask_token=True)
    assert dinov3.no_weight_decay() == {'body.cls_token', 'body.reg_token', 'mask_token'}


@pytest.mark.parametrize('frozen', [0, 1])
def test_what_is_frozen(frozen):
    encoder = make_encoder('Eva, rotations learned for each block', frozen_stages=frozen)
    free = {name for name, p in encoder.named_parameters() if p.requires_grad}
    assert {name.split('.')[2] for name in free if '.blocks.' in name} == ({'0', '1'} if frozen == 0 else {'1'})
    assert not {'body.cls_token', 'body.pos_embed', 'body.rope.freqs', 'body.patch_embed.proj.weight'} & free


@pytest.mark.parametrize(
    ('changes', 'words'),
    [
        (
            {'arch': 'vit_tiny_patch16_224'},
            "is of its class VisionTransformer: choose type='ViT'",
        ),
        ({'type': 'ViT', 'arch': 'vit_small_patch16_dinov3'}, "of its class Eva: choose type='Eva'"),
        ({'arch': 'vit_base_patch16_dinov33'}, "no architecture 'vit_base_patch16_dinov33'.*dinov3"),
        ({'embed_dim': 30, 'num_heads': 3}, r'multiple of 4 channels per head, not embed_dim=30 / num_heads=3 = 10'),
        ({'embed_dim': 25}, 'num_heads=3.*25'),
        ({'dynamic_img_size': True}, 'sets dynamic_img_size of timm itself'),
        ({'window_size': 0}, 'window_size=0 has to be'),
        ({'window_size': 2, 'num_reg_tokens': 4}, 'window_size=2 has no place for the 4 prefix tokens'),
        ({'global_blocks': (1,)}, r'global_blocks=\(1,\) needs window_size'),
        ({'window_size': 2, 'global_blocks': (2,)}, 'beyond the 2 blocks'),
        ({'arch': 'eva02_enormous_patch14_clip_224', 'window_size': 2, 'init_values': None}, 'whose norms come first'),
        ({'frozen_stages': 3}, 'frozen_stages=3'),
        ({'out_indices': 2}, 'out_indices'),
        ({'positions': 'learned'}, 'positions'),
    ],
)
def test_what_is_refused(changes, words):
    with pytest.raises(UserError, match=words):
        build(Encoder, {'type': 'Eva', **DINOV3, **changes})


HEADS = {  # with pooling and classifier, as timm makes them
    'vit_base_patch16_dinov3': (),
    'eva02_base_patch14_224': ('norm.bias', 'norm.weight'),  # behind the pooling there
    'vit_pe_core_base_patch16_224': (),
    'vit_pe_lang_large_patch14_448': (),
    'vit_small_patch16_rope_mixed_ape_224': (),
}


@pytest.mark.parametrize('arch', HEADS)
def test_timms_files_are_read(tmp_path, arch):
    theirs = randomized(timm.create_model(arch, num_classes=7, **VIT))
    torch.save(theirs.state_dict(), tmp_path / 'timm.pth')
    encoder = build(Encoder, {'type': 'Eva', 'arch': arch, **VIT})
    report = load_pretrained(encoder, tmp_path / 'timm.pth')
    assert [name.removeprefix('encoder.body.') for name in report.new] == list(HEADS[arch])
    for name, value in encoder.body.state_dict().items():
        assert name in HEADS[arch] or torch.equal(value, theirs.state_dict()[name]), name


@pytest.mark.parametrize('name', ['Eva, DINOv3', 'Eva, rotations learned for each block'])
def test_timms_model_takes_what_is_exported(name):
    """Of the first of two blocks."""
    config = dict(ENCODERS[name], out_indices=0)
    encoder = randomized(build(Encoder, config)).eval()
    state = to_timm({f'encoder.{key}': value for key, value in encoder.state_dict().items()})
    arch, given = find_timm_model(config, state)
    theirs, lacking = build_timm_model(arch, state, **given)
    assert not lacking
    tokens = theirs.eval().forward_features(images())[:, theirs.num_prefix_tokens :]
    torch.testing.assert_close(encoder(images())[0], tokens.mT.unflatten(2, (4, 6)), rtol=1e-5, atol=1e-5)


def test_the_encoder_of_an_architecture():
    assert make_encoder_config('vit_base_patch16_dinov3', depth=1) == {
        'type': 'Eva', 'arch': 'vit_base_patch16_dinov3', 'depth': 1,
    }  # fmt: skip
    assert make_encoder_config('beit_base_patch16_224')['type'] == 'ViT'
    assert make_encoder_config('resnet18')['type'] == 'SparseCNN'


def test_the_default_is_dinov3():
    with torch.device('meta'):
        encoder = Eva(depth=1)
    assert encoder.out_channels == (768,) and encoder.has_class_token and encoder.body.num_prefix_tokens == 5
