"""Law 9 for MAE: with the official weights, images and masks, our model gives the official numbers."""

import pytest
import torch

from mae_toolkit.checkpoints.load import load_state
from mae_toolkit.checkpoints.names.mae import MAE
from mae_toolkit.models import Cells, MaskedAutoencoder
from parity import Fixture, official_gradients

NAMES = ['mae_vit_norm_pix', 'mae_vit_raw_pix']


def model_of(fixture):
    """Our model with the fixture's weights."""
    c = fixture.info['constructor']
    vit = dict(patch_size=c['patch_size'], embed_dim=c['embed_dim'], depth=c['depth'], num_heads=c['num_heads'])
    model = MaskedAutoencoder(
        encoder=dict(type='ViT', arch='vit_base_patch16_224', img_size=c['img_size'], mlp_ratio=c['mlp_ratio'], **vit),
        masking=dict(type='RandomMasking', ratio=0.75),
        decoder=dict(
            type='TransformerDecoder',
            embed_dim=c['decoder_embed_dim'],
            depth=c['decoder_depth'],
            num_heads=c['decoder_num_heads'],
        ),
        objectives=dict(
            pixel=dict(target=dict(type='PixelTarget', norm_pix=c['norm_pix_loss']), losses=[dict(type='MaskedL2Loss')])
        ),
    ).to(fixture.dtype)
    report = load_state(model, MAE.to_ours(fixture.state_dict).weights)
    assert not report.new and not report.dropped and not report.resized
    return model


def official_order(fixture, prediction):
    """Our prediction (B, T, h, w) in the official layout (B, L, p*p*C)."""
    p = fixture.info['constructor']['patch_size']
    b, _, h, w = prediction.shape
    return prediction.reshape(b, -1, p, p, h * w).permute(0, 4, 2, 3, 1).flatten(2)


@pytest.mark.parametrize('name', NAMES)
def test_float64_loss_and_gradient_norms(data, name):
    fixture = Fixture(data, name, torch.float64)
    model = model_of(fixture)
    loss = model(fixture['input'], mask=fixture.mask, mode='loss')['loss_pixel']
    torch.testing.assert_close(loss, fixture['loss_float64'].view(()), rtol=1e-9, atol=0)
    loss.backward()
    gradients = official_gradients(fixture, model)
    total = torch.stack([g.norm() for g in gradients.values()]).norm()
    torch.testing.assert_close(total, fixture['grad_norm_total_float64'].view(()), rtol=1e-8, atol=0)


@pytest.mark.parametrize('name', NAMES)
def test_float32_loss_prediction_latent_and_gradient_norms(data, name):
    fixture = Fixture(data, name)
    model = model_of(fixture)
    images, mask = fixture['input'], fixture.mask
    loss = model(images, mask=mask, mode='loss')['loss_pixel']
    torch.testing.assert_close(loss, fixture['loss'].view(()), rtol=1e-5, atol=0)
    predictions, used = model(images, mask=mask, mode='predict')
    assert used is mask
    pred = official_order(fixture, predictions['pixel'])
    torch.testing.assert_close(pred, fixture['pred'], rtol=0, atol=fixture.tolerance('pred'))
    loss.backward()
    gradients = official_gradients(fixture, model)
    expected = {k: v for k, v in fixture.info['grad_norms'].items() if v is not None}
    assert gradients.keys() == expected.keys()
    for key, norm in expected.items():
        assert gradients[key].norm().item() == pytest.approx(norm, rel=1e-3), key


@pytest.mark.parametrize('name', NAMES)
def test_latent_of_visible_and_of_whole_images(data, name):
    fixture = Fixture(data, name)
    model = model_of(fixture)
    images, mask = fixture['input'], fixture.mask
    features = model.encoder.encode(images, Cells(mask))
    kept = fixture['noise'].argsort(1)[:, : int((~mask[0]).sum())]
    tokens = features.maps[0].flatten(2).mT  # (B, L, C)
    tokens = tokens.gather(1, kept.unsqueeze(-1).expand(-1, -1, tokens.shape[-1]))
    latent = torch.cat([features.prefixes[0], tokens], 1)
    torch.testing.assert_close(latent, fixture['latent'], rtol=0, atol=fixture.tolerance('latent'))
    whole = model.encoder.encode(images)
    latent = torch.cat([whole.prefixes[0], whole.maps[0].flatten(2).mT], 1)
    torch.testing.assert_close(latent, fixture['latent_unmasked'], rtol=0, atol=fixture.tolerance('latent_unmasked'))
