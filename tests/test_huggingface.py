"""Models of Hugging Face's transformers: their weights give their features in our encoders, and ours in theirs."""

import pytest
import torch
from safetensors.torch import load_file, save_file

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.checkpoints.names import FORMATS, find_format
from mae_toolkit.models import Encoder, MaskedAutoencoder
from mae_toolkit.models.mask_ops import to_map
from mae_toolkit.registry import build

transformers = pytest.importorskip('transformers', reason='transformers is not installed: pip install transformers')

VIT = {'hidden_size': 16, 'num_hidden_layers': 2, 'num_attention_heads': 2, 'image_size': 32, 'patch_size': 8}
OUR_VIT = {'type': 'ViT', 'img_size': 32, 'patch_size': 8, 'embed_dim': 16, 'depth': 2, 'num_heads': 2}
SWIN = {'image_size': 64, 'patch_size': 4, 'embed_dim': 8, 'depths': [2, 2], 'num_heads': [1, 2], 'window_size': 4}
OUR_SWIN = {'type': 'Swin', 'img_size': 64, 'embed_dim': 8, 'depths': (2, 2), 'num_heads': (1, 2), 'window_size': 4}
CONVNEXT = {'hidden_sizes': [8, 8, 16, 16], 'depths': [1, 1, 2, 1]}
OUR_CONVNEXT = {'type': 'ConvNeXt', 'dims': (8, 8, 16, 16), 'depths': (1, 1, 2, 1)}
HIERA = {'embed_dim': 8, 'image_size': [64, 64], 'num_heads': [1, 2, 4, 8], 'depths': [1, 2, 7, 2]}
OUR_HIERA = {'type': 'Hiera', 'arch': 'hiera_tiny_224', 'img_size': 64, 'embed_dim': 8, 'num_heads': 1}
OUR_HIERA |= {'stages': (1, 2, 7, 2)}
# Name: their class and its config, and our encoder.
MODELS = {
    'ViT': ('ViTModel', 'ViTConfig', VIT | {'intermediate_size': 64, 'layer_norm_eps': 1e-6}, OUR_VIT),
    'ViTMAE': ('ViTMAEModel', 'ViTMAEConfig', VIT | {'intermediate_size': 64, 'layer_norm_eps': 1e-6}, OUR_VIT),
    'DINOv2': ('Dinov2Model', 'Dinov2Config', VIT, OUR_VIT | {'arch': 'vit_base_patch14_dinov2'}),
    'DINOv2 with registers': (
        'Dinov2WithRegistersModel',
        'Dinov2WithRegistersConfig',
        VIT,
        OUR_VIT | {'arch': 'vit_base_patch14_reg4_dinov2'},
    ),
    'DINOv2 with SwiGLU': (
        'Dinov2Model',
        'Dinov2Config',
        VIT | {'use_swiglu_ffn': True},
        OUR_VIT | {'arch': 'vit_giant_patch14_dinov2', 'mlp_ratio': 6.0},
    ),
    'Swin': ('SwinModel', 'SwinConfig', SWIN, OUR_SWIN),
    'Swin with absolute positions': (
        'SwinModel',
        'SwinConfig',
        SWIN | {'use_absolute_embeddings': True},
        OUR_SWIN | {'ape': True},
    ),
    'Swin V2': ('Swinv2Model', 'Swinv2Config', SWIN, OUR_SWIN | {'arch': 'swinv2_tiny_window8_256'}),
    'Hiera': ('HieraModel', 'HieraConfig', HIERA, OUR_HIERA),
    'ConvNeXt': ('ConvNextModel', 'ConvNextConfig', CONVNEXT, OUR_CONVNEXT | {'arch': 'convnext_tiny'}),
    'ConvNeXt V2': ('ConvNextV2Model', 'ConvNextV2Config', CONVNEXT, OUR_CONVNEXT | {'arch': 'convnextv2_tiny'}),
}


def theirs(name):
    """Their model with every parameter drawn, so that none is idle."""
    kind, config, arguments, _ = MODELS[name]
    model = getattr(transformers, kind)(getattr(transformers, config)(**arguments)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.2)
    return model


def features(model, imgs):
    """Their last map, as ours is."""
    extra = {'noise': torch.arange(16.0)[None]} if 'MAE' in type(model).__name__ else {}
    with torch.no_grad():
        found = model(imgs, **extra).last_hidden_state
    if found.dim() == 4:
        return found
    side = int(found.shape[1] ** 0.5)  # tokens of a square behind the prefix tokens
    return to_map(found[:, found.shape[1] - side**2 :], (side, side))


@pytest.mark.parametrize('name', MODELS)
def test_their_files_give_their_features(name, tmp_path):
    model = theirs(name)
    if hasattr(model.config, 'mask_ratio'):
        model.config.mask_ratio = 0.0
    model.save_pretrained(tmp_path)
    encoder = build(Encoder, MODELS[name][3]).eval()
    report = load_pretrained(encoder, tmp_path / 'model.safetensors')
    assert not report.new and not report.resized
    imgs = torch.randn(1, 3, *(MODELS[name][3].get('img_size', 64),) * 2)
    with torch.no_grad():
        ours = encoder(imgs)[0]
    torch.testing.assert_close(ours, features(model, imgs), atol=1e-5, rtol=1e-5)
    by_module = {key: tensor.clone() for key, tensor in model.state_dict().items()}  # release 5 names them otherwise
    torch.save(by_module, tmp_path / 'state_dict.pth')
    again = build(Encoder, MODELS[name][3]).eval()
    if 'SwiGLU' not in name:
        load_pretrained(again, tmp_path / 'state_dict.pth')
        assert all(torch.equal(a, b) for a, b in zip(again.parameters(), encoder.parameters(), strict=True))


@pytest.mark.parametrize('name', MODELS)
def test_their_from_pretrained_takes_what_we_write(name, tmp_path):
    source = theirs(name)
    source.save_pretrained(tmp_path)
    file = load_file(tmp_path / 'model.safetensors')
    form = find_format(file)
    ours = form.to_ours(file)
    written = form.to_theirs(ours.weights)
    assert all(torch.equal(tensor, file[key]) for key, tensor in written.items())
    assert file.keys() - written.keys() == set(ours.left)
    assert all(key.startswith(('layernorm.', 'pooler.')) for key in ours.left)
    encoder = build(Encoder, MODELS[name][3]).eval()
    state = {f'encoder.{key}': value for key, value in encoder.state_dict().items()}
    save_file({k: v.contiguous() for k, v in form.to_theirs(state).items()}, tmp_path / 'model.safetensors')
    model, about = type(source).from_pretrained(tmp_path, output_loading_info=True)
    assert not about['unexpected_keys'] and not about['mismatched_keys']
    assert all(key in ours.left or 'mask_token' in key for key in about['missing_keys'])
    if hasattr(model.config, 'mask_ratio'):
        model.config.mask_ratio = 0.0
    imgs = torch.randn(1, 3, *(MODELS[name][3].get('img_size', 64),) * 2)
    with torch.no_grad():
        torch.testing.assert_close(features(model.eval(), imgs), encoder(imgs)[0], atol=1e-5, rtol=1e-5)


def test_a_whole_masked_autoencoder(tmp_path):
    """Encoder, decoder and prediction, by the loss of an image and a mask."""
    config = transformers.ViTMAEConfig(
        **VIT,
        intermediate_size=64,
        layer_norm_eps=1e-6,
        decoder_hidden_size=16,
        decoder_num_hidden_layers=1,
        decoder_num_attention_heads=2,
        decoder_intermediate_size=64,
    )
    model = transformers.ViTMAEForPreTraining(config).eval()
    model.save_pretrained(tmp_path)
    pixel = {'target': {'type': 'PixelTarget'}, 'losses': [{'type': 'MaskedL2Loss'}]}
    decoder = {'type': 'TransformerDecoder', 'embed_dim': 16, 'depth': 1, 'num_heads': 2}
    ours = MaskedAutoencoder(OUR_VIT, {'type': 'RandomMasking'}, decoder, {'pixel': pixel}).eval()
    report = load_any(ours, load_file(tmp_path / 'model.safetensors'))
    assert not report.new and report.dropped == ['decoder.decoder_pos_embed']
    imgs, noise = torch.randn(2, 3, 32, 32), torch.rand(2, 16)
    with torch.no_grad():
        model.decoder.decoder_pos_embed[0, 1:] = ours.decoder.positions((4, 4))  # zero in a fresh model of release 5
        output = model(imgs, noise=noise)
        mask = output.mask.bool().view(2, 1, 4, 4)
        torch.testing.assert_close(ours(imgs, mask=mask, mode='loss')['loss_pixel'], output.loss, atol=1e-5, rtol=1e-5)


def test_a_whole_hiera(tmp_path):
    """The fusion of its levels, too."""
    config = transformers.HieraConfig(
        **HIERA, num_query_pool=2, decoder_hidden_size=16, decoder_depth=1, decoder_num_heads=2
    )
    model = transformers.HieraForPreTraining(config).eval()
    model.save_pretrained(tmp_path)
    pixel = {'target': {'type': 'PixelTarget', 'norm_pix': True}, 'losses': [{'type': 'MaskedL2Loss'}]}
    decoder = {'type': 'TransformerDecoder', 'embed_dim': 16, 'depth': 1, 'num_heads': 2}
    decoder |= {'fusion': True, 'positions': 'learned'}
    encoder = OUR_HIERA | {'q_pool': 2, 'out_indices': (0, 1, 3)}
    ours = MaskedAutoencoder(encoder, {'type': 'RandomMasking', 'unit': 32}, decoder, {'pixel': pixel}).eval()
    report = load_any(ours, load_file(tmp_path / 'model.safetensors'))
    assert not report.new and not report.dropped
    imgs = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        output = model(imgs, noise=torch.rand(1, 4))
        mask = ~output.bool_masked_pos.view(1, 1, 4, 4)[..., ::2, ::2]  # of the positions of the last level
        torch.testing.assert_close(ours(imgs, mask=mask, mode='loss')['loss_pixel'], output.loss, atol=1e-5, rtol=1e-5)


def test_a_classifier_and_a_model_of_masked_images(tmp_path):
    """The model lies under a head there, whose weights are dropped, or its prediction ours."""
    classifier = transformers.ViTForImageClassification(transformers.ViTConfig(**VIT, intermediate_size=64))
    classifier.save_pretrained(tmp_path)
    report = load_pretrained(build(Encoder, OUR_VIT), tmp_path / 'model.safetensors')
    assert report.dropped == ['classifier.bias', 'classifier.weight'] and not report.new
    simmim = transformers.SwinForMaskedImageModeling(transformers.SwinConfig(**SWIN, encoder_stride=8))
    simmim.save_pretrained(tmp_path)
    pixel = {'target': {'type': 'PixelTarget', 'patch': 8}, 'losses': [{'type': 'MaskedL1Loss'}]}
    encoder, masking = OUR_SWIN | {'mask_token': True}, {'type': 'RandomMasking', 'unit': 8}
    model = MaskedAutoencoder(encoder, masking, {'type': 'LinearDecoder'}, {'pixel': pixel})
    report = load_any(model, load_file(tmp_path / 'model.safetensors'))
    assert not report.new and not report.dropped


def test_words_of_these_formats():
    assert {form.word for form in FORMATS if 'Hugging' in form.name} >= {'hugging-face-vit', 'hugging-face-vitmae'}
