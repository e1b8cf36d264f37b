"""Law 9 for CrossMAE: encoder, decoder and loss, with the official weights."""

import pytest
import torch

from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.models import Cells, MaskedAutoencoder
from mae_toolkit.models.mask_ops import hide, to_tokens
from parity import (
    Fixture,
    assert_loss_and_gradient_in_float64,
    assert_loss_and_gradients_in_float32,
    rows_last_channel,
)


def take_tokens(x, ids):
    """The tokens (B, N, C) of x (B, L, C) at the indices (B, N)."""
    return torch.stack([tokens[own] for tokens, own in zip(x, ids, strict=True)])


def model_of(fixture):
    """Our model with the fixture's weights, all but the fixed positions of the decoder."""
    c = fixture.info['constructor']
    sizes = {key: c[key] for key in ('img_size', 'patch_size', 'embed_dim', 'depth', 'num_heads', 'mlp_ratio')}
    levels = (-1, *range(c['depth']))
    model = MaskedAutoencoder(
        encoder=dict(type='ViT', arch='vit_base_patch16_224', out_indices=levels, final_norm=False, **sizes),
        masking=dict(type='RandomMasking', ratio=0.75, predict_ratio=0.25),
        decoder=dict(
            type='CrossAttentionDecoder',
            embed_dim=c['decoder_embed_dim'],
            depth=c['decoder_depth'],
            num_heads=c['decoder_num_heads'],
        ),
        objectives=dict(pixel=dict(target=dict(type='PixelTarget', norm_pix=True), losses=[dict(type='MaskedL2Loss')])),
    ).to(fixture.dtype)
    report = load_any(model, fixture.state_dict)
    assert not report.new and not report.resized
    assert report.dropped == ['decoder_pos_embed']
    return model


def predicted(fixture):
    """(B, 1, h, w) bool: the hidden cells that are decoded."""
    return fixture['predicted'].bool().unsqueeze(1)


def decoded_alone(fixture, model):
    """The prediction (B, T, h, w) of the predicted cells, no other being decoded."""
    mask = fixture.mask
    cells = Cells(mask, predicted(fixture), num_visible=4, num_predict=4)
    features = model.encoder.encode(hide(fixture['input'], mask), cells)
    return model.objectives['pixel'].head(model.decoder(features, cells))


def loss_of(fixture, model, alone):
    """With the predicted cells decoded, or with all of them decoded, which is the same."""
    if alone:
        return model.objectives['pixel'](decoded_alone(fixture, model), fixture['input'], predicted(fixture))
    return model(fixture['input'], mask=fixture.mask, predict=predicted(fixture), mode='loss')['loss_pixel']


@pytest.mark.parametrize('alone', [True, False])
def test_float64_loss_and_gradient(data, alone):
    fixture = Fixture(data, 'crossmae_vit', torch.float64)
    model = model_of(fixture)
    assert_loss_and_gradient_in_float64(fixture, model, loss_of(fixture, model, alone))


@pytest.mark.parametrize('alone', [True, False])
def test_float32_loss_and_gradients(data, alone):
    fixture = Fixture(data, 'crossmae_vit')
    model = model_of(fixture)
    assert_loss_and_gradients_in_float32(fixture, model, loss_of(fixture, model, alone))


def test_float32_prediction(data):
    fixture = Fixture(data, 'crossmae_vit')
    model = model_of(fixture)
    predictions, _ = model(fixture['input'], mask=fixture.mask, mode='predict')  # of all hidden cells
    ids = Cells(~predicted(fixture)).visible().ids
    for ours in (predictions['pixel'], decoded_alone(fixture, model)):
        pred = take_tokens(rows_last_channel(ours, 16), ids)
        torch.testing.assert_close(pred, fixture['pred'], rtol=0, atol=fixture.tolerance('pred'))


def test_levels_of_the_encoder(data):
    fixture = Fixture(data, 'crossmae_vit')
    maps, prefixes = model_of(fixture).encoder.encode(hide(fixture['input'], fixture.mask), Cells(fixture.mask))
    levels = [torch.cat([p, take_tokens(to_tokens(x), fixture['ids_keep'])], 1) for x, p in zip(maps, prefixes)]
    torch.testing.assert_close(torch.stack(levels, 3), fixture['latent'], rtol=0, atol=fixture.tolerance('latent'))
