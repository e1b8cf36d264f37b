"""Law 9 for Hiera's masked autoencoder: encoder, fusion, decoder and loss, with the official weights."""

import pytest
import torch

from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.models.cells import Cells, pack
from mae_toolkit.models.mask_ops import hide
from parity import Fixture, assert_loss_and_gradient_in_float64, assert_loss_and_gradients_in_float32


def model_of(fixture, **decoder):
    """Our model with the fixture's weights, all of them."""
    c = fixture.info['constructor']
    sizes = {key: c[key] for key in ('embed_dim', 'num_heads', 'q_pool')} | {'stages': tuple(c['stages'])}
    model = MaskedAutoencoder(
        encoder=dict(type='Hiera', arch='hiera_tiny_224', img_size=c['input_size'], out_indices=(0, 1, 3), **sizes),
        masking=dict(type='RandomMasking', ratio=0.5),
        decoder=dict(
            type='TransformerDecoder',
            embed_dim=c['decoder_embed_dim'],
            depth=c['decoder_depth'],
            num_heads=c['decoder_num_heads'],
            fusion=True,
            positions='learned',
        ),
        objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
    ).to(fixture.dtype)
    report = load_any(model, fixture.state_dict)
    assert not report.new and not report.dropped and not report.resized
    return model


def test_float64_loss_and_gradient(data):
    fixture = Fixture(data, 'hiera_mae', torch.float64)
    model = model_of(fixture)
    loss = model(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    assert_loss_and_gradient_in_float64(fixture, model, loss)


def test_float32_loss_prediction_and_gradients(data):
    fixture = Fixture(data, 'hiera_mae')
    model = model_of(fixture)
    predictions, _ = model(fixture['input'], mask=fixture.mask, mode='predict')
    pred = predictions['pixel'].flatten(2).mT  # (B, L, C*p*p): its order is ours
    torch.testing.assert_close(pred, fixture['pred'], rtol=0, atol=fixture.tolerance('pred'))
    loss = model(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    assert_loss_and_gradients_in_float32(fixture, model, loss)


@pytest.mark.parametrize('name', ['latent', 'latent_unmasked'])
def test_fused_levels(data, name):
    fixture = Fixture(data, 'hiera_mae')
    model = model_of(fixture)
    mask = fixture.mask if name == 'latent' else torch.zeros_like(fixture.mask)
    features = model.encoder.encode(hide(fixture['input'], mask), Cells(mask))
    fused = model.decoder.fusion(features).maps[0]
    units = pack(fused, Cells(mask).visible()).permute(0, 2, 3, 1).reshape(fixture[name].shape)  # (B, V, u, u, C)
    torch.testing.assert_close(units, fixture[name], rtol=0, atol=fixture.tolerance(name))
