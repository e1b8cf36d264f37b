"""Law 9 for encoders: official weights give the official outputs of every level, visible cells and whole images."""

import pytest
import torch

from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.checkpoints.names import BODY, find_format
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder, MaskedAutoencoder
from mae_toolkit.models.cells import Cells, pack
from mae_toolkit.models.mask_ops import hide, to_tokens
from mae_toolkit.registry import build
from parity import Fixture, maskfeat_input

CONVNEXT = {'type': 'ConvNeXt', 'depths': (1, 1, 2, 1), 'dims': (8, 16, 24, 40), 'out_indices': (0, 1, 2, 3)}
SWIN = {'type': 'Swin', 'img_size': 64, 'window_size': 4, 'depths': (2, 2, 2, 1), 'embed_dim': 4}
SWIN |= {'num_heads': (1, 2, 2, 4), 'out_indices': (0, 1, 2, 3)}
HIERA = {'type': 'Hiera', 'arch': 'hiera_tiny_224', 'img_size': 64, 'embed_dim': 6, 'num_heads': 1, 'q_pool': 2}
VIT = {'type': 'ViT', 'depth': 2, 'num_heads': 3, 'embed_dim': 24, 'norm_eps': 1e-6, 'mask_token': True}
BEIT = {'arch': 'beit_base_patch16_224', 'img_size': 64, 'init_values': 0.1, 'use_shared_rel_pos_bias': True}
BEIT |= {'use_rel_pos_bias': False, 'use_abs_pos_emb': False}
ENCODERS = {
    'convnextv2_dense': CONVNEXT | {'arch': 'convnextv2_tiny'},
    'convnextv2_fcmae': CONVNEXT | {'arch': 'convnextv2_tiny', 'dims': (8, 12, 16, 24), 'grn_over_batch': True},
    'spark_convnext': CONVNEXT | {'arch': 'convnext_tiny'},
    'spark_resnet': {'type': 'SparseCNN', 'arch': 'resnet50', 'layers': (1, 1, 2, 1), 'out_indices': (1, 2, 3, 4)}
    | {'channels': (4, 6, 8, 10)},
    'hiera_mae': HIERA | {'stages': (1, 1, 2, 1), 'out_indices': (0, 1, 2, 3)},
    'simmim_swin': SWIN | {'mask_token': True},
    'simmim_vit': VIT | BEIT,
    'maskfeat_vit': VIT | {'positions': 'learned', 'mlp_ratio': 64 / 24},
    'greenmim_swin': SWIN | {'norm_eps': 1e-6},
}


def encoder_with(fixture, name):
    """Our encoder with the fixture's weights, none left over and none lacking."""
    encoder = build(Encoder, ENCODERS[name]).to(fixture.dtype)
    report = load_any(torch.nn.ModuleDict({'encoder': encoder}), fixture.state_dict)
    assert not report.resized and not report.new
    return encoder.train()


def close(fixture, name, ours):
    torch.testing.assert_close(ours, fixture[name], rtol=0, atol=fixture.tolerance(name), msg=lambda m: f'{name}: {m}')


def masked(fixture, encoder):
    """The levels of the fixture's images under its mask."""
    imgs, mask = fixture['input'], fixture.mask
    return encoder(imgs if encoder.fills_hidden else hide(imgs, mask), mask)


def test_convnext_v2_whole_and_its_gradients(data):
    fixture = Fixture(data, 'convnextv2_dense', torch.float64)
    encoder = encoder_with(fixture, 'convnextv2_dense')
    state = fixture.state_dict
    head = {k: state[k].clone().requires_grad_() for k in ('norm.weight', 'norm.bias', 'head.weight', 'head.bias')}
    x = encoder(fixture['input'])[3].mean((2, 3))
    x = torch.nn.functional.layer_norm(x, x.shape[1:], head['norm.weight'], head['norm.bias'], 1e-6)
    logits = torch.nn.functional.linear(x, head['head.weight'], head['head.bias'])
    loss = torch.nn.functional.cross_entropy(logits, fixture['labels'].long())
    torch.testing.assert_close(loss, fixture['loss_float64'].view(()), rtol=1e-9, atol=0)
    loss.backward()
    grads = [p.grad for p in (*encoder.parameters(), *head.values())]
    total = torch.stack([g.norm() for g in grads]).norm().item()
    assert total == pytest.approx(fixture['grad_norm_total_float64'].item(), rel=1e-8)


def test_convnext_v2_levels(data):
    fixture = Fixture(data, 'convnextv2_dense')
    for i, ours in enumerate(encoder_with(fixture, 'convnextv2_dense')(fixture['input'])):
        close(fixture, f'stage.{i}', ours)


def test_fcmae_from_kernels_of_minkowski(data):
    fixture = Fixture(data, 'convnextv2_fcmae')
    encoder = encoder_with(fixture, 'convnextv2_fcmae')
    for i, ours in enumerate(masked(fixture, encoder)):
        close(fixture, f'stage.{i}', ours)
    alone = build(Encoder, ENCODERS['convnextv2_fcmae'] | {'grn_over_batch': False})
    alone.load_state_dict(encoder.state_dict())
    assert (masked(fixture, alone)[3] - fixture['stage.3']).abs().max() > 1e-3  # GRN per image is another reading
    for i, ours in enumerate(alone(fixture['input'])):
        if i:
            close(fixture, f'converted_dense_features.{i}', ours)


@pytest.mark.parametrize('name', ['spark_convnext', 'spark_resnet'])
def test_spark(data, name):
    fixture = Fixture(data, name)
    encoder = encoder_with(fixture, name)
    whole = encoder.eval()(fixture['input'])
    for i in (2, 3):
        close(fixture, f'latent_unmasked_eval.{i}', whole[i])
    for i, ours in enumerate(masked(fixture, encoder.train())):
        close(fixture, f'latent.{i}', ours)
    after = fixture.under('buffer_after.sparse_encoder.sp_cnn.')
    buffers = {k: v for k, v in encoder.body.named_buffers() if k in after}
    assert buffers.keys() == after.keys()
    for key, ours in buffers.items():  # the running statistics are those of what is visible
        torch.testing.assert_close(ours, after[key], rtol=1e-5, atol=1e-6, msg=key)


def test_hiera(data):
    fixture = Fixture(data, 'hiera_mae')
    packing = Cells(fixture.mask).visible()
    for i, ours in enumerate(masked(fixture, encoder_with(fixture, 'hiera_mae'))):
        units = pack(ours, packing).permute(0, 2, 3, 1).reshape(fixture[f'stage.{i}'].shape)  # (B, V, u, u, C)
        close(fixture, f'stage.{i}', units)


def test_simmim(data):
    fixture = Fixture(data, 'simmim_swin')
    encoder = encoder_with(fixture, 'simmim_swin')
    maps = masked(fixture, encoder)
    for i in range(3):  # officially a stage ends with the merging that timm has at the beginning of the next
        merged = encoder.body.layers[i + 1].downsample(maps[i].permute(0, 2, 3, 1))
        close(fixture, f'stage.{i}', merged.flatten(1, 2))
    close(fixture, 'latent', maps[3])
    close(fixture, 'latent_unmasked', encoder(fixture['input'])[3])


def test_simmim_of_a_vit(data):
    fixture = Fixture(data, 'simmim_vit')
    encoder = encoder_with(fixture, 'simmim_vit')
    close(fixture, 'latent', masked(fixture, encoder)[0])
    close(fixture, 'latent_unmasked', encoder(fixture['input'])[0])


def test_maskfeat(data):
    fixture = Fixture(data, 'maskfeat_vit')
    encoder = encoder_with(fixture, 'maskfeat_vit')
    imgs = maskfeat_input(fixture)
    for name, mask in (('latent', fixture.mask), ('latent_unmasked', None)):
        maps, prefixes = encoder.encode(imgs, None if mask is None else Cells(mask))
        close(fixture, name, torch.cat([prefixes[0], to_tokens(maps[0])], 1))


def test_greenmim(data):
    """Visible tokens in raster order. Its decoder takes them for another order, which is not reproduced."""
    fixture = Fixture(data, 'greenmim_swin')
    encoder = encoder_with(fixture, 'greenmim_swin')
    maps, packing = masked(fixture, encoder), Cells(fixture.mask).visible()
    close(fixture, 'latent', pack(maps[3], packing).flatten(2).mT)
    for i in range(3):
        merged = encoder.body.layers[i + 1].downsample(pack(maps[i], packing).permute(0, 2, 3, 1))
        assert merged.flatten(1, 2).shape == fixture[f'stage.{i}'].shape
        close(fixture, f'stage.{i}', raster(merged, packing))


def raster(x, packing):
    """Packed positions (B, V*u, u, C) in the raster order of their map (B, N, C)."""
    unit = x.shape[2]
    y, column = packing.positions(tuple(n * unit for n in packing.grid))
    order = (y * packing.grid[1] * unit + column).argsort(1)
    return x.flatten(1, 2).gather(1, order.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


@pytest.mark.parametrize('name', ENCODERS)
def test_checkpoints_load_into_a_model_with_nothing_left_unsaid(data, name):
    fixture = Fixture(data, name)
    objectives = {'pixel': {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}}
    decoder = {'type': 'TransformerDecoder', 'embed_dim': 16, 'depth': 1, 'num_heads': 2}
    model = MaskedAutoencoder(ENCODERS[name], {'type': 'RandomMasking'}, decoder, objectives)
    report = load_any(model, fixture.state_dict)
    assert not report.resized
    assert all(key.startswith(('decoder.', 'objectives.')) for key in report.new)
    origin = find_format(fixture.state_dict).to_ours(fixture.state_dict).origin
    body = [name for name in origin if name.startswith(BODY)]
    assert not {key for name in body for key in origin[name]} & set(report.dropped)
    lost = body[len(body) // 2]
    with pytest.raises(UserError, match='lack 1 keys') as refusal:
        load_any(model, {key: tensor for key, tensor in fixture.state_dict.items() if key not in origin[lost]})
    assert lost in str(refusal.value)
