"""Folders that transformers reads: the same features, and with MAE's decoder the same loss."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mae_toolkit import load_encoder
from mae_toolkit.apis import build_model, export_encoder
from mae_toolkit.errors import UserError
from mae_toolkit.export.export import export
from parts import DINOV3, VIT, images, randomized
from test_export_folder import ENCODERS, STAGES, config_of, text_of, write_checkpoint

transformers = pytest.importorskip('transformers', reason='transformers is not installed: pip install transformers')
SQUARE = {**VIT, 'img_size': 32}
SWIN = {'depths': (2, 2), 'embed_dim': 8, 'num_heads': (1, 2), 'window_size': 2, 'img_size': 32}
MODELS = {
    'ViT of another size': ({'type': 'ViT', **VIT, 'class_token': True}, 'ViTModel'),
    'DINOv3': ({'type': 'Eva', 'arch': 'vit_small_patch16_dinov3', **VIT}, 'DINOv3ViTModel'),
    'DINOv3 with SwiGLU': ({'type': 'Eva', **DINOV3}, 'DINOv3ViTModel'),
    'Swin': ({'type': 'Swin', **SWIN}, 'SwinModel'),
    'ConvNeXt': ({'type': 'ConvNeXt', 'arch': 'convnext_tiny', **STAGES}, 'ConvNextModel'),
    'ConvNeXt V2': ({'type': 'ConvNeXt', 'arch': 'convnextv2_tiny', **STAGES}, 'ConvNextV2Model'),
    'ConvNeXt V2 of 1x1 convolutions': ({'type': 'ConvNeXt', 'arch': 'convnextv2_atto', **STAGES}, 'ConvNextV2Model'),
}


def tokens_to_map(tokens, like):
    return tokens if tokens.dim() == 4 else tokens[:, -like[0, 0].numel() :].mT.reshape(like.shape)


@pytest.mark.parametrize('name', MODELS)
def test_transformers_makes_the_same_features(tmp_path, name):
    config, model = MODELS[name]
    encoder = write_checkpoint(tmp_path / 'epoch_3.pth', config)
    lines = export_encoder(tmp_path / 'epoch_3.pth', tmp_path / 'encoder', 'transformers')
    assert model in lines[0] and 'greatest difference' in lines[1]
    network, told = getattr(transformers, model).from_pretrained(tmp_path / 'encoder', output_loading_info=True)
    assert not told['unexpected_keys'] and all('pooler' in key for key in told['missing_keys'])
    imgs = images(size=config.get('img_size', (64, 96)) if name != 'Swin' else (32, 32))
    with torch.no_grad():
        expected = encoder(imgs)[-1]
        found = tokens_to_map(network.eval()(imgs).last_hidden_state, expected)
        scale = expected.abs().max()
        torch.testing.assert_close(found / scale, expected / scale, atol=1e-5, rtol=0)
        again, _ = load_encoder(tmp_path / 'encoder')
        again.out_norms = nn.ModuleList(nn.Identity() for _ in again.out_channels)
        torch.testing.assert_close(again(imgs)[-1], expected, atol=1e-5, rtol=1e-5)


@pytest.fixture(scope='module')
def mae(tmp_path_factory):
    """A small MAE, its run and its export."""
    folder = tmp_path_factory.mktemp('mae')
    cfg = config_of({'type': 'ViT', **SQUARE})
    cfg.model.decoder = {'type': 'TransformerDecoder', 'embed_dim': 16, 'depth': 2, 'num_heads': 2}
    cfg.model.objectives.pixel.target = {'type': 'PixelTarget', 'norm_pix': True}
    model = randomized(build_model(cfg)).eval()
    torch.save({'state_dict': model.state_dict(), 'meta': {'cfg': text_of(cfg)}}, folder / 'epoch_3.pth')
    export_encoder(folder / 'epoch_3.pth', folder / 'encoder', 'transformers')
    return model, folder / 'encoder'


def test_the_whole_mae_has_the_same_loss(mae):
    model, folder = mae
    theirs, told = transformers.ViTMAEForPreTraining.from_pretrained(folder, output_loading_info=True)
    assert not told['unexpected_keys'] and not told['missing_keys']
    imgs, noise = images(size=(32, 32)), torch.rand(2, 16, generator=torch.Generator().manual_seed(0))
    hidden = noise.argsort(1).argsort(1) >= 4  # the quarter of the least noise stays
    with torch.no_grad():
        expected = model(imgs, hidden.view(2, 1, 4, 4), mode='loss')['loss_pixel']
        torch.testing.assert_close(theirs.eval()(imgs, noise=noise).loss, expected, rtol=1e-5, atol=1e-6)


def test_the_encoder_of_mae_alone(mae):
    model, folder = mae
    imgs = images(size=(32, 32))
    with torch.no_grad():
        expected = model.encoder(imgs)[-1]
        plain = transformers.ViTModel.from_pretrained(folder, add_pooling_layer=False).eval()
        torch.testing.assert_close(
            tokens_to_map(plain(imgs).last_hidden_state, expected), expected, atol=1e-5, rtol=1e-5
        )
        network = transformers.ViTMAEModel.from_pretrained(folder, mask_ratio=0.0).eval()
        found = network(imgs, noise=torch.arange(16).expand(2, -1)).last_hidden_state
        torch.testing.assert_close(tokens_to_map(found, expected), expected, atol=1e-5, rtol=1e-5)
        again, _ = load_encoder(folder)
        torch.testing.assert_close(again(imgs)[-1], expected, atol=1e-5, rtol=1e-5)
    assert json.loads((folder / 'config.json').read_text())['mask_ratio'] == 0.75


def test_images_are_prepared_alike(mae):
    _, folder = mae
    processor, (_, transform) = transformers.AutoImageProcessor.from_pretrained(folder), load_encoder(folder)
    pixels = np.random.default_rng(0).integers(0, 256, (80, 120, 3), np.uint8)  # of the size that is cut out of
    found = processor(Image.fromarray(pixels), return_tensors='pt')['pixel_values'][0]
    torch.testing.assert_close(found, transform(pixels), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ('name', 'sentence'),
    [
        ('Hiera', "Hiera.* has no place in the layout 'transformers', which has timm's VisionTransformer"),
        ('ResNet', 'SparseCNN.* has no place'),
        ('BEiT', 'ViT.* has no place'),
        ('Eva, EVA-02, no last norm', 'transformers has DINOv3, and this one lacks its rotations, .*its norms of it'),
        ('ViT, five channels, registers, no last norm', 'no registers, and this one has 3 prefix tokens'),
        ('Swin', 'windows of this Swin, .* are not the same in all stages'),
    ],
)
def test_what_transformers_does_not_have_is_told(tmp_path, name, sentence):
    write_checkpoint(tmp_path / 'epoch_3.pth', ENCODERS[name] | ({'window_size': 4} if name == 'Swin' else {}))
    with pytest.raises(UserError, match=sentence):
        export_encoder(tmp_path / 'epoch_3.pth', tmp_path / 'encoder', 'transformers')
    with pytest.raises(UserError, match='writes a folder'):
        list(export(tmp_path / 'epoch_3.pth', tmp_path / 'encoder.pth', 'transformers'))
