"""Weights of DINOv3 under the names of Meta and of Hugging Face give the features that they give there."""

import pytest
import torch
from safetensors.torch import load_file
from timm.models.eva import checkpoint_filter_fn

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.names import find_format
from mae_toolkit.checkpoints.names.regroup import Regroup
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder
from mae_toolkit.models.teacher import Teacher
from mae_toolkit.registry import build
from parts import VIT, images, randomized

PLAIN = {'type': 'Eva', 'arch': 'vit_small_patch16_dinov3', **VIT}
BIASED = PLAIN | {'arch': 'vit_small_patch16_dinov3_qkvb'}
SWIGLU = PLAIN | {'arch': 'vit_small_plus_patch16_dinov3_qkvb'}


def metas(swiglu=False, zero=False, depth=2, dim=24):
    """A tiny checkpoint by Meta's names, with random numbers."""
    shapes = {'cls_token': (1, 1, dim), 'storage_tokens': (1, 4, dim), 'mask_token': (1, dim), 'norm': dim}
    shapes |= {'rope_embed.periods': (2,), 'patch_embed.proj.weight': (dim, 3, 8, 8), 'patch_embed.proj.bias': (dim,)}
    layers = {'w1': (4 * dim, dim), 'w2': (4 * dim, dim)} if swiglu else {'fc1': (4 * dim, dim)}
    layers |= {'w3' if swiglu else 'fc2': (dim, 4 * dim)}
    for i in range(depth):
        block = {
            'norm1': dim,
            'norm2': dim,
            'ls1.gamma': (dim,),
            'ls2.gamma': (dim,),
            'attn.qkv.weight': (3 * dim, dim),
        }
        block |= {'attn.qkv.bias': (3 * dim,), 'attn.qkv.bias_mask': (3 * dim,)}
        block |= {'attn.proj.weight': (dim, dim), 'attn.proj.bias': (dim,)}
        for layer, shape in layers.items():
            block |= {f'mlp.{layer}.weight': shape, f'mlp.{layer}.bias': shape[:1]}
        shapes |= {f'blocks.{i}.{name}': shape for name, shape in block.items()}
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes.items():
        names, shape = ((name,), shape) if isinstance(shape, tuple) else ((f'{name}.weight', f'{name}.bias'), (shape,))
        state |= {key: torch.randn(shape, generator=generator) * 0.2 for key in names}
    if zero:
        state |= {name: value * 0 for name, value in state.items() if name.endswith('qkv.bias')}
    return state


def save(tmp_path, state):
    torch.save(state, tmp_path / 'dinov3.pth')
    return tmp_path / 'dinov3.pth'


@pytest.mark.parametrize(('config', 'swiglu'), [(BIASED, False), (SWIGLU, True)])
def test_metas_names_are_read_as_timm_reads_them(tmp_path, config, swiglu):
    state = metas(swiglu)
    encoder, other = (build(Encoder, dict(config)) for _ in range(2))
    report = load_pretrained(encoder, save(tmp_path, state))
    assert [name for name in report.dropped if 'blocks.' not in name] == ['mask_token', 'rope_embed.periods']
    other.body.load_state_dict(checkpoint_filter_fn(dict(state), other.body))
    for name, value in other.state_dict().items():
        assert torch.equal(encoder.state_dict()[name], value), name


def test_the_mask_token_is_read_where_there_is_one(tmp_path):
    encoder = build(Encoder, BIASED | {'mask_token': True})
    load_pretrained(encoder, save(tmp_path, metas()))
    assert torch.equal(encoder.mask_token, metas()['mask_token'][0])


def test_biases_of_zeros_need_no_place(tmp_path):
    """timm has DINOv3 without these biases, too, as those of some sizes are zero."""
    for config in (PLAIN, BIASED):
        load_pretrained(build(Encoder, dict(config)), save(tmp_path, metas(zero=True)))
    with pytest.raises(UserError, match=r'does not build, 2 keys: blocks.0.attn.qkv.bias'):
        load_pretrained(build(Encoder, dict(PLAIN)), save(tmp_path, metas()))


def test_windows_and_fewer_blocks(tmp_path):
    encoder = build(Encoder, BIASED | {'window_size': 2, 'out_indices': 0})
    report = load_pretrained(encoder, save(tmp_path, metas()))
    assert {'cls_token', 'storage_tokens', 'blocks.1.ls1.gamma'} <= set(report.dropped)
    assert not report.new


@pytest.mark.parametrize(('config', 'gated'), [(BIASED, False), (SWIGLU, True)])
def test_features_of_hugging_face(tmp_path, config, gated):
    transformers = pytest.importorskip('transformers', reason='transformers is not installed')
    theirs = transformers.DINOv3ViTModel(
        transformers.DINOv3ViTConfig(
            hidden_size=24, intermediate_size=96, num_hidden_layers=2, num_attention_heads=3, patch_size=8,
            num_register_tokens=4, use_gated_mlp=gated, hidden_act='silu' if gated else 'gelu',
        )
    ).eval()  # fmt: skip
    randomized(theirs).save_pretrained(tmp_path)
    encoder = build(Encoder, dict(config)).eval()
    load_pretrained(encoder, tmp_path / 'model.safetensors')
    with torch.no_grad():
        expected = theirs(images(size=(40, 56))).last_hidden_state[:, 5:].mT.unflatten(2, (5, 7))
        torch.testing.assert_close(encoder(images(size=(40, 56)))[0], expected, rtol=1e-5, atol=1e-5)
    written = load_file(tmp_path / 'model.safetensors')
    form = find_format(written)
    back = form.to_theirs(form.to_ours(written).weights)
    assert back.keys() == written.keys() and all(torch.equal(back[name], value) for name, value in written.items())
    load_pretrained(encoder, save(tmp_path, theirs.state_dict()))  # in memory, blocks have other names


def test_tensors_are_cut_and_joined():
    cut = Regroup(('{i}.qkv',), ('{i}.q', '', '{i}.v'))
    state = {'0.qkv': torch.arange(6), '1.qkv': torch.arange(3), 'other': torch.ones(1)}
    found, origin = cut.apply(state)
    assert {name: value.tolist() for name, value in found.items()} == {
        'other': [1], '0.q': [0, 1], '0.v': [4, 5], '1.q': [0], '1.v': [2],
    }  # fmt: skip
    assert origin['0.v'] == ('0.qkv',)
    back, origin = cut.invert().apply(found)
    assert back['0.qkv'].tolist() == [0, 1, 0, 0, 4, 5] and origin['0.qkv'] == ('0.q', '0.v')
    assert cut.invert().apply({'0.q': torch.ones(1)})[0].keys() == {'0.q'}  # not all are there


@pytest.mark.parametrize('kind', ['Eva', 'timm'])
def test_a_teacher_reads_metas_weights(tmp_path, kind):
    path = save(tmp_path, metas())
    teacher = Teacher(BIASED | {'type': kind}, path)
    encoder = build(Encoder, dict(BIASED)).eval()
    load_pretrained(encoder, path)
    torch.testing.assert_close(teacher(images())[0], encoder(images())[0], rtol=1e-5, atol=1e-5)
    lacking = {name: value for name, value in metas().items() if name != 'storage_tokens'}
    with pytest.raises(UserError):
        Teacher(BIASED | {'type': kind}, save(tmp_path, lacking))
