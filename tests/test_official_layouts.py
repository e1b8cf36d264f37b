"""Every key of full-size checkpoints of others is accounted for; names and shapes alone, so nothing is computed."""

import functools
import json
import re

import pytest
import torch

from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.checkpoints.names import BODY
from mae_toolkit.errors import UserError
from mae_toolkit.models import MaskedAutoencoder

pytestmark = pytest.mark.slow

MAE_DECODER = {'type': 'TransformerDecoder', 'embed_dim': 512, 'depth': 8, 'num_heads': 16}
HIERA_DECODER = MAE_DECODER | {'fusion': True, 'positions': 'learned'}
SMALL_DECODER = {'type': 'TransformerDecoder', 'embed_dim': 16, 'depth': 1, 'num_heads': 2}
VIT = {'type': 'ViT', 'arch': 'vit_base_patch16_224'}
SWIN = {'type': 'Swin', 'arch': 'swin_base_patch4_window7_224', 'img_size': 192, 'window_size': 6}
CONVNEXT = {'type': 'ConvNeXt', 'arch': 'convnext_base'}
CONVNEXT_V2 = {'type': 'ConvNeXt', 'arch': 'convnextv2_base'}
ENCODERS = {
    'convnextv2_base_fcmae': CONVNEXT_V2,
    'convnextv2_base_fcmae_remapped': CONVNEXT_V2,
    'hiera_mae_base_224': {'type': 'Hiera', 'arch': 'hiera_base_224', 'q_pool': 2, 'out_indices': (0, 1, 3)},
    'mae_vit_base_patch16': VIT,
    'mae_vit_large_patch16': VIT | {'arch': 'vit_large_patch16_224'},
    'mmpretrain_mae_vit-base-p16': VIT,
    'mmpretrain_maskfeat_vit-base-p16': VIT | {'positions': 'learned'},
    'mmpretrain_simmim_swin-base-w6_192': SWIN | {'mask_token': True},
    'simmim_swin_base_192_window6': SWIN | {'mask_token': True},
    'spark_convnext_base_timm_style': CONVNEXT,
    'spark_convnext_base_withdecoder': CONVNEXT | {'out_indices': (0, 1, 2, 3)},
}
# What the decoder of a checkpoint is here; for the others it is not read.
DECODERS = {
    'convnextv2_base_fcmae': {'type': 'ConvNeXtDecoder'},
    'hiera_mae_base_224': HIERA_DECODER,
    'mae_vit_base_patch16': MAE_DECODER,
    'mae_vit_large_patch16': MAE_DECODER,
    'mmpretrain_mae_vit-base-p16': MAE_DECODER,
    'mmpretrain_simmim_swin-base-w6_192': {'type': 'LinearDecoder'},
    'simmim_swin_base_192_window6': {'type': 'LinearDecoder'},
    'spark_convnext_base_withdecoder': {'type': 'UNetDecoder'},
}
# All but the one that differs from another in width and depth alone.
KINDS = [name for name in ENCODERS if name != 'mae_vit_large_patch16']
WHOLE = [name for name in KINDS if DECODERS.get(name, {}).get('type') == 'TransformerDecoder']
# How many keys are left: fixed tables, buffers that are computed, decoders that are not read.
LEFT = {
    'mae_vit_base_patch16': 1,
    'mae_vit_large_patch16': 1,
    'mmpretrain_mae_vit-base-p16': 1,
    'mmpretrain_maskfeat_vit-base-p16': 6,
    'mmpretrain_simmim_swin-base-w6_192': 24,
    'simmim_swin_base_192_window6': 35,
    'spark_convnext_base_withdecoder': 3,
}


@pytest.fixture(params=ENCODERS)
def layout(request, data):
    """Name of a layout, and tensors without storage of its names, types and shapes."""
    return request.param, layout_of(data, request.param)


def layout_of(data, name):
    """Tensors without storage of a layout."""
    entries = json.loads((data / 'layouts' / f'{name}.json').read_text())['entries']
    types = {'float32': torch.float32, 'int64': torch.int64}
    return {k: torch.empty(shape, dtype=types[kind], device='meta') for k, kind, shape in entries}


def model_for(name, decoder=None, **changes):
    """Our model of the layout's size, with the decoder of the checkpoint if it has none of its own.

    It has no storage, so that loading does not change it, and one of each kind is enough.
    """
    decoder = decoder or DECODERS.get(name, SMALL_DECODER)
    if decoder['type'] == 'LinearDecoder' and not changes.get('mask_token', True):
        decoder = SMALL_DECODER  # somebody must fill the hidden cells
    return _make_model(json.dumps(ENCODERS[name] | changes), json.dumps(decoder))


@functools.cache
def _make_model(encoder, decoder):
    objectives = {'pixel': {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}}
    with torch.device('meta'):
        return MaskedAutoencoder(json.loads(encoder), {'type': 'RandomMasking'}, json.loads(decoder), objectives)


def test_every_key_is_loaded_or_left_on_purpose(layout):
    name, state = layout
    model = model_for(name)
    report = load_any(model, state)
    assert len(report.loaded) + len(report.dropped) == len(state)
    assert len(report.dropped) == LEFT.get(name, 0), report.dropped
    assert not report.resized
    whole = set(model.state_dict())
    assert set(report.loaded) | set(report.new) == whole
    assert all(key.startswith(('decoder.', 'objectives.')) for key in report.new)
    assert name not in DECODERS or not report.new


@pytest.mark.parametrize('name', WHOLE)
@pytest.mark.parametrize(
    'decoder',
    [
        SMALL_DECODER,
        MAE_DECODER | {'depth': 7},
        MAE_DECODER | {'embed_dim': 256},
        MAE_DECODER | {'positions': 'learned'},
        {'type': 'CrossAttentionDecoder'},
    ],
    ids=['small', 'shallow', 'narrow', 'learned positions', 'cross-attention'],
)
def test_a_decoder_of_another_kind_is_left_and_told(data, name, decoder):
    """All of it and its head, and the encoder is loaded whole."""
    state = layout_of(data, name)
    model = model_for(name, decoder)
    report = load_any(model, state)
    its = [key for key in state if 'decoder' in key or key.startswith(('mask_token', 'multi_scale', 'encoder_norm'))]
    its += [key for key in state if key.startswith('neck.') and key not in its]
    assert report.dropped == sorted(its)
    assert set(report.loaded) == {key for key in model.state_dict() if key.startswith('encoder.')}
    assert set(report.new) == {key for key in model.state_dict() if key.startswith(('decoder.', 'objectives.'))}


@pytest.mark.parametrize('name', WHOLE)
def test_a_mistake_in_a_decoder_of_the_same_kind_is_named(data, name):
    state = layout_of(data, name)
    endings = ('decoder_blocks.3.mlp.fc1.weight', 'decoder_blocks.3.ffn.layers.0.0.weight')
    key = next(key for key in state if key.endswith(endings))
    with pytest.raises(UserError, match=r'lack 1 keys: decoder\.blocks\.3\.mlp\.fc1\.weight;'):
        load_any(model_for(name), {k: v for k, v in state.items() if k != key})
    with pytest.raises(UserError, match=rf'hold {re.escape(key)} of shape \(7,'):
        load_any(model_for(name), state | {key: torch.empty(7, 512, device='meta')})


@pytest.mark.parametrize('layout', KINDS, indirect=True)
def test_a_missing_a_stray_and_a_wrong_key_are_named(layout):
    name, state = layout
    model = model_for(name)
    left = set(load_any(model, state).dropped)
    # not a table of positions, which has a message of its own
    read = [key for key in state if key not in left and key.endswith('weight')]
    for key in (read[0], read[len(read) // 2], read[-1]):
        with pytest.raises(UserError, match=r'lack 1 keys: (encoder|decoder|objectives)\.\S+;'):
            load_any(model, {k: v for k, v in state.items() if k != key})
        wrong = torch.empty(*state[key].shape[:-1], state[key].shape[-1] + 3, device='meta')
        with pytest.raises(UserError, match=r'of shape \(.*\), the model \(.*\)'):
            load_any(model, state | {key: wrong})
    for stray in (f'{read[-1]}.stray', f'{read[0].rpartition(".")[0]}.stray', 'stray'):
        with pytest.raises(UserError, match='stray'):
            load_any(model, state | {stray: torch.empty(3, 3, device='meta')})


@pytest.mark.parametrize('layout', KINDS, indirect=True)
def test_keys_of_decoders_are_known_one_by_one(layout):
    name, state = layout
    model = model_for(name)
    left = [key for key in load_any(model, state).dropped if key in state and not key.endswith(('index', 'attn_mask'))]
    for key in left[::5]:
        stem, _, last = key.rpartition('.')
        for stray in (f'{key}_stray', f'{stem}.stray.{last}'.strip('.')):
            with pytest.raises(UserError, match=f'has no {stray}'):
                load_any(model, state | {stray: state[key]})


@pytest.mark.filterwarnings('ignore:for decoder')  # counts of batches have storage, where nothing else has
@pytest.mark.parametrize(
    'decoder',
    [{'type': 'ConvNeXtDecoder', 'embed_dim': 64}, {'type': 'UNetDecoder', 'width': 32}, MAE_DECODER | {'depth': 2}],
    ids=lambda decoder: decoder['type'],
)
@pytest.mark.parametrize(
    'layout',
    [
        'convnextv2_base_fcmae',
        'mae_vit_base_patch16',
        'simmim_swin_base_192_window6',
        'spark_convnext_base_withdecoder',
    ],
    indirect=True,
)
def test_a_model_with_another_decoder_takes_the_encoder_alone(layout, decoder):
    """One of other layers, of other widths, or much less deep; every key of the decoder and the head is named."""
    name, state = layout
    model = model_for(name, decoder)
    report = load_any(model, state)
    assert report.new == sorted(key for key in model.state_dict() if key.startswith(('decoder.', 'objectives.')))
    assert all(key.startswith('encoder.') for key in report.loaded)
    assert len(report.loaded) + len(report.dropped) == len(state)


@pytest.mark.parametrize('name', ['mmpretrain_simmim_swin-base-w6_192', 'simmim_swin_base_192_window6'])
def test_the_mask_token_goes_where_there_is_one(data, name):
    entries = json.loads((data / 'layouts' / f'{name}.json').read_text())['entries']
    state = {k: torch.empty(shape, device='meta') for k, _, shape in entries}
    assert 'encoder.mask_token' in load_any(model_for(name), state).loaded
    token = next(k for k in state if k.endswith('mask_token'))
    assert token in load_any(model_for(name, mask_token=False), state).dropped
    rest = {k: v for k, v in state.items() if k != token}
    if name.startswith('mmpretrain'):  # as of a classifier of OpenMMLab, of which the backbone alone is read
        report = load_any(model_for(name), rest)
        assert 'encoder.mask_token' in report.new and any(key.startswith('neck.') for key in report.dropped)
    else:
        with pytest.raises(UserError, match='lack 1 keys: encoder.mask_token'):
            load_any(model_for(name), rest)


def test_other_sizes_of_these_checkpoints(layout):
    """Tables of positions are resized, from squares; nothing else is."""
    name, state = layout
    tables = {'Swin': {'img_size': (128, 192), 'window_size': (4, 6)}, 'ConvNeXt': {}}
    changes = tables.get(ENCODERS[name]['type'], {'img_size': (128, 288)})
    report = load_any(model_for(name, **changes), state)
    assert all(key.split(' ')[0].endswith(('pos_embed', 'bias_table')) for key in report.resized)
    assert len(report.resized) == (24 if 'simmim' in name else 2 if 'hiera' in name else 1 if changes else 0)
    assert all(' x ' in key and key.startswith((BODY, 'decoder.positions')) for key in report.resized)
