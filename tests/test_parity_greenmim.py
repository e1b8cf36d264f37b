"""Law 9 for GreenMIM: encoder, decoder and loss, with the official weights.

The official decoder puts visible tokens into cells in the order of the noise that drew the mask, and its encoder gives
them in raster order: they are permuted among the visible cells. Ours are where they belong. Both readings are checked,
the official one by permuting them here.
"""

import pytest
import torch

from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.checkpoints.positions import COMPUTED
from mae_toolkit.models import Cells, Features, MaskedAutoencoder
from mae_toolkit.models.mask_ops import hide, to_map, to_tokens
from parity import (
    Fixture,
    assert_loss_and_gradient_in_float64,
    assert_loss_and_gradients_in_float32,
    rows_last_channel,
)


def model_of(fixture):
    """Our model with the fixture's weights, all but the fixed positions of the decoder and what is computed."""
    c = fixture.info['constructor']
    sizes = {key: c['encoder'][key] for key in ('img_size', 'embed_dim', 'depths', 'num_heads', 'window_size')}
    model = MaskedAutoencoder(
        encoder=dict(type='Swin', norm_eps=1e-6, **sizes),
        masking=dict(type='RandomMasking', ratio=0.5, shared=True),
        decoder=dict(
            type='TransformerDecoder',
            embed_dim=c['decoder_embed_dim'],
            depth=c['decoder_depth'],
            num_heads=c['decoder_num_heads'],
        ),
        objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
    ).to(fixture.dtype)
    report = load_any(model, fixture.state_dict)
    assert not report.new and not report.resized
    assert [name for name in report.dropped if not name.endswith(COMPUTED)] == ['decoder_pos_embed']
    return model


def official_prediction(fixture, model):
    """The prediction (B, T, h, w) with the visible tokens in cells by the order of the noise."""
    mask = fixture.mask
    (x,), prefixes = model.encoder.encode(hide(fixture['input'], mask), Cells(mask))
    visible = (~mask[0]).flatten().nonzero().flatten()  # in raster order
    cells = fixture['noise'][0].argsort()[: len(visible)]  # the official order
    tokens = to_tokens(x)
    permuted = torch.zeros_like(tokens).index_copy(1, cells, tokens[:, visible])
    features = Features((to_map(permuted, x.shape[-2:]),), prefixes)
    return model.objectives['pixel'].head(model.decoder(features, Cells(mask)))


def official_loss(fixture, model):
    return model.objectives['pixel'](official_prediction(fixture, model), fixture['input'], fixture.mask)


def test_float64_loss_of_the_raster_reading(data):
    fixture = Fixture(data, 'greenmim_swin', torch.float64)
    loss = model_of(fixture)(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    assert loss.item() == pytest.approx(fixture.info['loss_raster_float64'], rel=1e-9)


def test_float32_loss_and_prediction_of_the_raster_reading(data):
    fixture = Fixture(data, 'greenmim_swin')
    model = model_of(fixture)
    loss = model(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    torch.testing.assert_close(loss, fixture['loss_raster'].view(()), rtol=1e-5, atol=0)
    predictions, _ = model(fixture['input'], mask=fixture.mask, mode='predict')
    pred, name = rows_last_channel(predictions['pixel'], 32)[:1], 'pred_raster_sample0'
    torch.testing.assert_close(pred, fixture[name], rtol=0, atol=fixture.tolerance(name))


def test_float64_loss_and_gradient_of_the_official_reading(data):
    fixture = Fixture(data, 'greenmim_swin', torch.float64)
    model = model_of(fixture)
    assert_loss_and_gradient_in_float64(fixture, model, official_loss(fixture, model))


def test_float32_loss_prediction_and_gradients_of_the_official_reading(data):
    fixture = Fixture(data, 'greenmim_swin')
    model = model_of(fixture)
    pred = rows_last_channel(official_prediction(fixture, model), 32)
    torch.testing.assert_close(pred, fixture['pred'], rtol=0, atol=fixture.tolerance('pred'))
    assert_loss_and_gradients_in_float32(fixture, model, official_loss(fixture, model))
