"""Weights of images with other channels: by a rule that is named, into every encoder's first convolution, and back."""

import logging

import pytest
import timm
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from timm.models import adapt_input_conv

import projects.mixmim  # noqa: F401 - it registers MixMIMSwin
from engine_toys import make_runner
from mae_toolkit.checkpoints.channels import RULES, adapt_convolution, adapt_statistics
from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.checkpoints.names.fcmae import DENSE_FCMAE
from mae_toolkit.checkpoints.names.mae import MAE
from mae_toolkit.downstream.fit_encoder import fit_encoder
from mae_toolkit.errors import UserError
from mae_toolkit.models import Encoder
from mae_toolkit.models.classifier import Classifier
from mae_toolkit.models.preprocessor import ImagePreprocessor
from mae_toolkit.models.teacher import Teacher
from mae_toolkit.registry import build
from parts import ENCODERS, images, make_model, randomized

MIXMIM = {'type': 'MixMIMSwin', 'img_size': (32, 48), 'depths': (1, 1), 'embed_dim': 8, 'num_heads': (1, 2)}
EACH = {**ENCODERS, 'MixMIM': MIXMIM | {'window_size': 2}}


@pytest.fixture
def warnings(caplog):
    """What is warned of."""
    logger = MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    yield lambda: [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    logger.removeHandler(caplog.handler)


def saved(folder, encoder):
    path = folder / 'weights.pth'
    torch.save({'state_dict': {f'encoder.{name}': tensor for name, tensor in encoder.state_dict().items()}}, path)
    return str(path)


def adapted(config, path, channels, rule):
    init_cfg = {'type': 'Pretrained', 'checkpoint': path, 'prefix': 'encoder', 'channels': rule}
    encoder = build(Encoder, config | {'in_chans': channels, 'init_cfg': init_cfg}).eval()
    encoder.init_weights()
    return encoder


@pytest.mark.parametrize('channels', [1, 2, 3, 4, 5, 6, 8])
def test_sum_is_the_rule_of_timm(channels):
    weight = torch.randn(4, 3, 2, 2)
    assert torch.equal(adapt_convolution(weight, channels, 'sum'), adapt_input_conv(channels, weight.clone()))
    half = adapt_convolution(weight.half(), channels, 'sum')
    assert half.dtype == torch.float16


def test_the_rules_in_numbers():
    weight = torch.tensor([1.0, 2.0, 6.0]).view(1, 3, 1, 1)
    found = {rule: [adapt_convolution(weight, n, rule).flatten().tolist() for n in (1, 2, 4)] for rule in RULES}
    assert found['sum'] == [[9], [1.5, 3], [0.75, 1.5, 4.5, 0.75]]
    assert found['mean'] == [[3], [3, 3], [3, 3, 3, 3]]
    assert found['first'] == [[1], [1, 2], [1, 2, 6, 0]]


@pytest.mark.parametrize('rule', ['sum', 'first'])
def test_and_back(rule):
    weight = torch.randn(4, 3, 2, 2)
    for channels in (3, 4, 6, 7):
        again = adapt_convolution(adapt_convolution(weight, channels, rule), 3, rule)
        torch.testing.assert_close(again, weight)


@pytest.mark.parametrize('name', EACH)
def test_features_of_rgb_are_those_of_its_copies(name, tmp_path):
    """Six channels that repeat RGB by ``sum``, in every encoder."""
    old = randomized(build(Encoder, EACH[name])).eval()
    found = adapted(EACH[name], saved(tmp_path, old), 6, 'sum')(images().repeat(1, 2, 1, 1))
    for a, b in zip(found, old(images()), strict=True):
        torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize('name', ['ViT', 'ConvNeXt'])
def test_features_by_the_other_rules(name, tmp_path):
    """RGB with two more channels of any values by ``first``, one gray channel by ``sum``, two by ``mean``."""
    old = randomized(build(Encoder, EACH[name])).eval()
    path, imgs = saved(tmp_path, old), images()
    gray, expected = imgs[:, :1], old(imgs[:, :1].expand(-1, 3, -1, -1))
    cases = [
        (5, 'first', torch.cat([imgs, torch.randn_like(imgs[:, :2])], 1), old(imgs)),
        (1, 'sum', gray, expected),
        (2, 'mean', gray.expand(-1, 2, -1, -1) * 1.5, expected),
    ]
    for channels, rule, given, wanted in cases:
        for a, b in zip(adapted(EACH[name], path, channels, rule)(given), wanted, strict=True):
            torch.testing.assert_close(a, b, atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ('arch', 'config'),
    [
        ('resnet18', {'type': 'SparseCNN'}),
        ('swin_tiny_patch4_window7_224', {'type': 'Swin', 'depths': (1, 1), 'embed_dim': 8, 'num_heads': (1, 2)}),
        ('vit_tiny_patch16_224', {'type': 'ViT', 'depth': 1}),
    ],
)
def test_weights_of_timm_are_adapted_as_timm_adapts_them(arch, config, tmp_path):
    sizes = {key: value for key, value in config.items() if key != 'type'}
    network = timm.create_model(arch, num_classes=0, **sizes)
    torch.save(network.state_dict(), tmp_path / 'timm.pth')
    encoder = build(Encoder, config | {'arch': arch, 'in_chans': 5})
    report = load_pretrained(encoder, tmp_path / 'timm.pth', channels='sum')
    (first,) = [name for name, tensor in network.state_dict().items() if tensor.dim() == 4 and tensor.shape[1] == 3]
    assert report.resized == [f'encoder.body.{first} (3 to 5 channels by sum)']
    found = encoder.body.state_dict()[first]
    assert torch.equal(found, adapt_input_conv(5, network.state_dict()[first]))


def test_without_a_rule_the_refusal_has_both_numbers_and_the_rules(tmp_path):
    path = saved(tmp_path, build(Encoder, ENCODERS['ViT']))
    with pytest.raises(UserError, match=r"of 3 channels, and the model in_chans=5 .*channels='sum', 'mean' or 'first'"):
        adapted(ENCODERS['ViT'], path, 5, None)
    with pytest.raises(UserError, match=r"init_cfg.channels='max' must be one of sum, mean, first"):
        adapted(ENCODERS['ViT'], path, 5, 'max')


def test_a_model_of_another_architecture_is_not_adapted(tmp_path):
    path = saved(tmp_path, build(Encoder, ENCODERS['ViT']))
    with pytest.raises(UserError, match=r'patch_embed.proj.weight of shape \(24, 3, 8, 8\), the model \(24, 5, 4, 4\)'):
        adapted(ENCODERS['ViT'] | {'patch_size': 4, 'img_size': (16, 24)}, path, 5, 'sum')


def test_a_frozen_embedding_is_warned_of(tmp_path, warnings):
    path = saved(tmp_path, build(Encoder, ENCODERS['ViT']))
    adapted(ENCODERS['ViT'], path, 5, 'sum')
    assert not warnings()
    adapted(ENCODERS['ViT'] | {'frozen_stages': 0}, path, 5, 'sum')
    (said,) = warnings()
    assert said.startswith('The encoder is frozen, and encoder.body.patch_embed.proj.weight was adapted from 3 to 5 ')
    frozen = {'in_chans': 5, 'init_cfg': {'type': 'Pretrained', 'checkpoint': path, 'channels': 'mean'}}
    Classifier(ENCODERS['ViT'] | frozen, num_classes=2, freeze=True).init_weights()
    assert len(warnings()) == 2
    teacher = Teacher(ENCODERS['ViT'] | {'in_chans': 5}, path, in_chans=5, channels_rule='sum')
    assert warnings()[2].startswith('The teacher is frozen') and teacher.scale.shape == (5, 1, 1)


def test_a_teacher_normalizes_as_its_weights_were_trained(tmp_path):
    old = randomized(build(Encoder, ENCODERS['ViT'])).eval()
    path, stats = saved(tmp_path, old), {'mean': (10.0,) * 6, 'std': (2.0,) * 6}
    six = {'network_mean': (1.0, 2.0, 3.0), 'network_std': (4.0, 5.0, 6.0), 'channels_rule': 'sum'}
    teacher = Teacher(ENCODERS['ViT'] | {'in_chans': 6}, path, 6, **stats, **six)
    three = Teacher(ENCODERS['ViT'], path, 3, (10.0,) * 3, (2.0,) * 3, six['network_mean'], six['network_std'])
    torch.testing.assert_close(teacher(images().repeat(1, 2, 1, 1))[0], three(images())[0], atol=1e-5, rtol=1e-4)


def test_a_whole_model_keeps_its_decoder_and_begins_with_a_fresh_head():
    """The head predicts the channels of the file, in our own files and in those of a format."""
    five = ENCODERS['ViT'] | {'in_chans': 5}
    old, new = randomized(make_model(ENCODERS['ViT'])), make_model(five)
    with pytest.raises(UserError, match='of 3 channels, and the model in_chans=5'):
        load_any(new, old.state_dict())
    fresh = {name: tensor.clone() for name, tensor in new.state_dict().items()}
    report = load_any(new, old.state_dict(), channels='sum')
    heads = ['objectives.pixel.head.proj.bias', 'objectives.pixel.head.proj.weight']
    assert report.new == report.dropped == heads
    assert all(torch.equal(new.state_dict()[name], fresh[name]) for name in heads)
    assert report.resized == ['encoder.body.patch_embed.proj.weight (3 to 5 channels by sum)']
    assert torch.equal(new.decoder.state_dict()['norm.weight'], old.decoder.state_dict()['norm.weight'])


def test_a_training_begins_with_them_by_the_rule_in_its_config(tmp_path):
    """``channels_rule`` beside ``load_from``."""
    old = randomized(make_model(ENCODERS['ViT']))
    torch.save({'state_dict': old.state_dict()}, tmp_path / 'old.pth')
    model = make_model(ENCODERS['ViT'] | {'in_chans': 5})
    for rule in (None, 'first'):
        runner = make_runner(tmp_path / str(rule), model=model, cfg={'channels_rule': rule})
        assert runner.train_loop is not None  # which begins with the weights
        if rule is None:
            with pytest.raises(UserError, match=r'channels_rule beside load_from'):
                runner.load_checkpoint(str(tmp_path / 'old.pth'))
        else:
            runner.load_checkpoint(str(tmp_path / 'old.pth'))
    first = model.encoder.body.patch_embed.proj.weight
    assert torch.equal(first[:, :3], old.encoder.body.patch_embed.proj.weight) and not first[:, 3:].any()


def test_a_classifier_begins_with_them(tmp_path):
    path = saved(tmp_path, build(Encoder, ENCODERS['ViT']))
    cfg = Config({'model': {'type': 'Classifier', 'encoder': ENCODERS['ViT'], 'num_classes': 2}})
    fitted = fit_encoder(cfg, ENCODERS['ViT'] | {'in_chans': 5}, path, channels_rule='mean')
    assert fitted.model.encoder.init_cfg == {'type': 'Pretrained', 'checkpoint': path, 'channels': 'mean'}
    assert 'channels' not in fit_encoder(cfg, ENCODERS['ViT'], path).model.encoder.init_cfg


@pytest.mark.parametrize(
    ('encoder', 'decoder', 'form'),
    [('ViT', 'TransformerDecoder', MAE), ('ConvNeXt V2', 'ConvNeXtDecoder', DENSE_FCMAE)],
    ids=['MAE', 'FCMAE'],
)
def test_a_whole_model_of_a_format(encoder, decoder, form):
    """Their predictions are laid out by the channels of the file, not by those of the model."""
    config = {key: value for key, value in ENCODERS[encoder].items() if key != 'out_norms'}
    old = randomized(make_model(config, decoder=decoder))
    new, grid = make_model(config | {'in_chans': 5}, decoder=decoder), (4, 6) if encoder == 'ViT' else None
    report = load_any(new, form.to_theirs(old.state_dict()), grid=grid, channels='first')
    assert len(report.new) == len(report.dropped) == 2
    assert all(name.startswith('objectives.pixel.head') for name in report.new)
    assert '(3 to 5 channels by first)' in report.resized[0]
    assert len(report.loaded) == len(new.state_dict()) - 3


@pytest.mark.parametrize(
    ('channels', 'rule', 'mean', 'std'),
    [
        (1, 'sum', [2], [5]),
        (5, 'sum', [1, 2, 3, 1, 2], [4, 5, 6, 4, 5]),
        (4, 'mean', [2] * 4, [5] * 4),
        (5, 'first', [1, 2, 3, 2, 2], [4, 5, 6, 5, 5]),
        (2, 'first', [1, 2], [4, 5]),
        (3, None, [1, 2, 3], [4, 5, 6]),
    ],
)
def test_mean_and_std_follow(channels, rule, mean, std):
    found = adapt_statistics((1, 2, 3), (4, 5, 6), channels, rule)
    assert (list(found.mean), list(found.std)) == (mean, std) and f'{channels} channels' in found.reason
    assert ImagePreprocessor(found.mean, found.std).mean.shape[0] == channels


def test_mean_and_std_of_the_own_images():
    own = ((9,) * 5, (8,) * 5)
    found = adapt_statistics((1, 2, 3), (4, 5, 6), 5, 'sum', own)
    assert (found.mean, found.std) == own and 'own images' in found.reason
    kept = adapt_statistics((1, 2, 3), (4, 5, 6), 3, None, ((9,) * 3, (8,) * 3))
    assert kept.mean == (1, 2, 3) and 'those of the weights' in kept.reason
    for channels, rule, values, sentence in (
        (4, 'sum', own, 'The images have 4 channels, and their mean and std 5 and 5 values'),
        (5, None, own, 'have 5 channels, and the mean and std of the weights 3 values: .* sum, mean, first'),
        (5, 'max', None, "channels='max' must be one of sum, mean, first"),
    ):
        with pytest.raises(UserError, match=sentence):
            adapt_statistics((1, 2, 3), (4, 5, 6), channels, rule, values)
    with pytest.raises(UserError, match='3 means and 2 deviations'):
        adapt_statistics((1, 2, 3), (4, 5), 5, 'sum')
