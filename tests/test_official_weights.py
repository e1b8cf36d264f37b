"""Checkpoints of others: containers, names and orders of mmpretrain and BEiT, checked by numbers."""

import argparse
import json
import re
import sys
import types

import pytest
import timm
import torch

from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.checkpoints.names import BODY, find_format
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, MaskedAutoencoder
from mae_toolkit.registry import build
from parity import Fixture, maskfeat_input
from test_parity_encoders import ENCODERS
from test_parity_mae import model_of


def in_mmpretrain(data, method, state):
    """Official weights under mmpretrain's names, by the published correspondence."""
    rules = json.loads((data / 'layouts' / 'mmpretrain_correspondence.json').read_text())[method]['rules']
    renamed = {}
    for name, tensor in state.items():
        matches = ((pattern, new) for pattern, new in rules if re.match(pattern, name))
        if not name.endswith('attn_mask'):
            pattern, new = next(matches)
            renamed[re.sub(pattern, new, name)] = tensor
    return renamed


def interleaved(tensor):
    """Four groups of C values in the order 0, 2, 1, 3, then new index = channel * 4 + group."""
    groups = tensor.chunk(4, -1)
    return torch.stack([groups[i] for i in (0, 2, 1, 3)], -1).flatten(-2)


def body_of(state, in_chans=3):
    """The encoder under timm's names, and its mask token."""
    weights = find_format(state).to_ours(state, in_chans).weights
    return {k.removeprefix(BODY): v for k, v in weights.items() if k.startswith(BODY)}


def test_mae_of_mmpretrain_is_the_official_with_its_decoder(data):
    fixture = Fixture(data, 'mae_vit_norm_pix', torch.float64)
    model, other = model_of(fixture), model_of(fixture)
    for p in other.parameters():
        p.data.zero_()
    report = load_any(other, in_mmpretrain(data, 'mae_vit', fixture.state_dict))
    assert not report.new and report.dropped == ['neck.decoder_pos_embed']
    assert all(torch.equal(v, other.state_dict()[k]) for k, v in model.state_dict().items())
    loss = other(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    torch.testing.assert_close(loss, fixture['loss_float64'].view(()), rtol=1e-9, atol=0)


def test_swin_of_mmpretrain_is_the_official_with_patch_merging_reordered(data):
    fixture = Fixture(data, 'simmim_swin')
    state = in_mmpretrain(data, 'simmim_swin', fixture.state_dict)
    there = {k: interleaved(v) if '.downsample.' in k else v for k, v in state.items()}
    encoders = []
    for weights in (fixture.state_dict, there, state):
        encoders.append(build(Encoder, ENCODERS['simmim_swin']))
        assert not load_any(torch.nn.ModuleDict({'encoder': encoders[-1]}), weights).new
    official, ours, unordered = (encoder.state_dict() for encoder in encoders)
    assert all(torch.equal(v, ours[k]) for k, v in official.items())
    assert any(not torch.equal(v, unordered[k]) for k, v in official.items())  # the order is not the same there
    latent = encoders[1](fixture['input'], fixture.mask)[3]
    torch.testing.assert_close(latent, fixture['latent'], rtol=0, atol=fixture.tolerance('latent'))


def test_maskfeat_gives_the_official_features_of_whole_images(data):
    fixture = Fixture(data, 'maskfeat_vit')
    sizes = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'mlp_ratio': 64 / 24}
    model = timm.create_model('vit_base_patch16_224', num_classes=0, global_pool='', fc_norm=False, **sizes)
    model.load_state_dict(body_of(fixture.state_dict), strict=True)
    with torch.no_grad():
        features = model(maskfeat_input(fixture))
    torch.testing.assert_close(features, fixture['latent_unmasked'], rtol=0, atol=fixture.tolerance('latent_unmasked'))
    encoder = build(Encoder, {'type': 'ViT', 'arch': 'vit_base_patch16_224', 'positions': 'learned', **sizes})
    report = load_any(torch.nn.ModuleDict({'encoder': encoder}), fixture.state_dict)
    assert not report.new and not report.resized
    assert 'backbone.mask_token' in report.dropped  # this ViT has none
    assert torch.equal(encoder.body.pos_embed, fixture.state_dict['backbone.pos_embed'])


BEIT = {'use_shared_rel_pos_bias': True, 'use_rel_pos_bias': False, 'use_abs_pos_emb': False, 'init_values': 0.1}


def test_simmim_of_a_vit_is_a_beit_of_timm(data):
    fixture = Fixture(data, 'simmim_vit')
    sizes = {'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'img_size': 64}
    model = timm.create_model('beit_base_patch16_224', num_classes=0, global_pool='token', **sizes, **BEIT)
    body = body_of(fixture.state_dict)
    missing = [name for name in model.state_dict() if name not in body]
    assert not missing
    model.load_state_dict(body, strict=True)
    with torch.no_grad():
        tokens = model.forward_features(fixture['input'])[:, 1:]
    ours = tokens.mT.unflatten(2, (4, 4))
    torch.testing.assert_close(ours, fixture['latent_unmasked'], rtol=0, atol=fixture.tolerance('latent_unmasked'))
    official = find_format(fixture.state_dict).to_ours(fixture.state_dict)
    assert official.weights['encoder.mask_token'].numel() == 24
    assert official.left == ['encoder.rel_pos_bias.relative_position_index']


@pytest.fixture
def yacs(monkeypatch):
    """A class that pickles as the settings of Swin and SimMIM do, of a package that need not be there to load it."""

    class CfgNode(dict):
        def __init__(self, values):
            super().__init__(values)
            self.__dict__.update({'__immutable__': True, '__deprecated_keys__': set(), '__renamed_keys__': {}})

        def __setattr__(self, name, value):
            raise AttributeError(name)

    CfgNode.__module__, CfgNode.__qualname__ = 'yacs.config', 'CfgNode'
    modules = {'yacs': types.ModuleType('yacs'), 'yacs.config': types.ModuleType('yacs.config')}
    modules['yacs.config'].CfgNode = CfgNode
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    return CfgNode


def test_the_files_of_each_method_are_read_without_executing_them(tmp_path, yacs, monkeypatch):
    state = {'a.weight': torch.ones(2), 'b': torch.zeros(3)}
    spark_config = {'mask_ratio': 0.6, 'densify_norm_str': 'bn', 'sbn': False}
    settings = yacs({'MODEL': yacs({'NAME': 'x', 'DEPTHS': [2, 2]}), 'BASE': ['']})
    files = {
        'mae': {'model': state, 'optimizer': {'state': {}}, 'epoch': 1, 'scaler': {}, 'args': argparse.Namespace(lr=1)},
        'spark': {'module': state | {'config': spark_config}, 'args': 'Namespace()', 'arch': 'convnext', 'epoch': 3},
        'simmim': {'model': state, 'config': settings, 'max_accuracy': 0.0, 'epoch': 99, 'optimizer': {}},
        'hiera': {'model_state': state, 'epoch': 1},
        'mmengine': {'state_dict': state, 'ema_state_dict': {'steps': torch.tensor(3)}, 'meta': {}, 'optimizer': {}},
        'timm style': dict(state),
        'distributed': {'model': {f'module.{k}': v for k, v in state.items()}},
    }
    for name, content in files.items():
        torch.save(content, tmp_path / f'{name}.pth')
        torch.save(content, tmp_path / f'{name}.old.pth', _use_new_zipfile_serialization=False)
    for name in ('yacs', 'yacs.config'):
        monkeypatch.delitem(sys.modules, name)
    for path in tmp_path.iterdir():
        read_back = load_weights(path)
        assert read_back.keys() == state.keys(), path
        assert all(torch.equal(v, read_back[k]) for k, v in state.items())


def test_two_names_for_one_weight_are_refused(data):
    fixture = Fixture(data, 'hiera_mae')
    hiera = torch.nn.ModuleDict({'encoder': build(Encoder, ENCODERS['hiera_mae'])})
    with pytest.raises(UserError, match='has no pos_embed_abs'):
        load_any(hiera, {**fixture.state_dict, 'pos_embed_abs': fixture.state_dict['pos_embed']})


def test_an_unknown_objective_and_what_timm_cannot_read(data):
    fixture = Fixture(data, 'mae_vit_norm_pix')
    with pytest.raises(UserError, match="no objective 'hog', only pixel"):
        load_any(model_of(fixture), fixture.state_dict, objective='hog')
    swin = torch.nn.ModuleDict({'encoder': build(Encoder, ENCODERS['simmim_swin'])})
    with pytest.raises(UserError, match='cannot read these weights'):
        load_any(swin, {'layers.7.blocks.0.attn.relative_position_bias_table': torch.ones(49, 1), 'x': torch.ones(1)})


@pytest.mark.parametrize('name', ['convnextv2_dense', 'spark_convnext', 'simmim_swin'])
def test_what_timm_exports_comes_back(data, name):
    """Weights under timm's own names: loaded whole, and a mask token or decoder they lack is new."""
    objectives = {'pixel': {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}}
    decoder = {'type': 'TransformerDecoder', 'embed_dim': 16, 'depth': 1, 'num_heads': 2}
    model = MaskedAutoencoder(ENCODERS[name], {'type': 'RandomMasking'}, decoder, objectives)
    plain = {k: torch.randn(v.shape) for k, v in model.encoder.body.state_dict().items()}
    report = load_any(model, plain)
    assert all(torch.equal(v, plain[k]) for k, v in model.encoder.body.state_dict().items())
    assert len(report.loaded) == len(plain) and not report.dropped
    assert ('encoder.mask_token' in report.new) == model.encoder.fills_hidden
    first = next(iter(plain))
    for wrong in ({k: v for k, v in plain.items() if k != first}, plain | {'stray': torch.ones(3)}):
        with pytest.raises(UserError, match=f'lack 1 keys: {BODY}{first}' if first not in wrong else 'stray'):
            load_any(model, wrong)


@pytest.mark.parametrize('arch', ['swin_tiny_patch4_window7_224', 'swinv2_tiny_window8_256'])
def test_swins_of_their_official_releases(arch):
    """Their patch merging ends a stage, and they save buffers and a classifier."""
    sizes = {'img_size': 64, 'depths': (2, 1), 'embed_dim': 8, 'num_heads': (1, 2), 'window_size': 4}
    encoder = build(Encoder, {'type': 'Swin', 'arch': arch, **sizes})
    plain = {k: torch.randn(v.shape) for k, v in encoder.body.state_dict().items()}
    there = {k.replace('layers.1.downsample', 'layers.0.downsample'): v for k, v in plain.items()}
    left = {'layers.0.blocks.1.attn_mask': torch.ones(4, 16, 16), 'head.weight': torch.ones(5, 16)}
    left |= {'layers.0.blocks.0.attn.relative_position_index': torch.zeros(16, 16), 'head.bias': torch.ones(5)}
    report = load_any(torch.nn.ModuleDict({'encoder': encoder}), there | left)
    assert not report.new and not report.resized and report.dropped == sorted(left)
    assert all(torch.equal(v, plain[k]) for k, v in encoder.body.state_dict().items())
    with pytest.raises(UserError, match='has no head.stray'):
        load_any(torch.nn.ModuleDict({'encoder': encoder}), there | {'head.stray': torch.ones(1)})
