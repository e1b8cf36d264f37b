"""Linear CKA: against the formula, known cases, and the layers of every encoder."""

import numpy as np
import pytest
import torch
from torch import nn

from anomaly_sets import make_image
from mae_toolkit.apis import explain_cka, load_feature_extractor
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.explanation.cka import CKA, compare_layers, compute_gram
from mae_toolkit.evaluation.explanation.layers import list_outputs, name_layers
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.registry import build
from parts import ENCODERS, images, randomized
from test_export_folder import ENCODERS as EXPORTED
from test_load_encoder import write_run


def activations(images=40, channels=12, seed=0):
    return torch.randn(images, channels, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def compare(x, y, batch=None):
    cka = CKA()
    for one, two in zip(x.split(batch or len(x)), y.split(batch or len(y)), strict=True):
        cka.add([compute_gram(one)], [compute_gram(two)])
    return float(cka.compute()[0, 0])


def by_formula(x, y):
    """Equation 5 of Song et al. (2012), as Nguyen et al. (arXiv:2010.15327, equation 3) write it."""

    def hsic(a, b):
        n, ones = len(a), np.ones(len(a))
        k, m = (z @ z.T for z in (a, b))
        np.fill_diagonal(k, 0)
        np.fill_diagonal(m, 0)
        terms = np.trace(k @ m) + ones @ k @ ones * (ones @ m @ ones) / ((n - 1) * (n - 2))
        return (terms - 2 / (n - 2) * ones @ k @ m @ ones) / (n * (n - 3))

    return hsic(x, y), hsic(x, x), hsic(y, y)


def test_it_is_that_of_the_formula():
    x = activations()
    y = x[:, :5] @ activations(5, 20, 1) + 0.5 * activations(40, 20, 2) + 3
    both, one, two = by_formula(x.numpy(), y.numpy())
    assert compare(x, y) == pytest.approx(both / (one * two) ** 0.5, rel=1e-9)
    parts = [by_formula(a.numpy(), b.numpy()) for a, b in zip(x.split(10), y.split(10), strict=True)]
    both, one, two = np.mean(parts, axis=0)
    assert compare(x, y, 10) == pytest.approx(both / (one * two) ** 0.5, rel=1e-9)


def test_the_same_up_to_a_rotation_and_a_factor_is_one():
    x = activations()
    rotation = torch.linalg.qr(activations(12, 12, 1))[0]
    assert compare(x, x) == pytest.approx(1) and compare(x, 7 * x @ rotation + 2, 8) == pytest.approx(1)
    assert compare(x, x @ activations(12, 12, 1)) < 0.95  # another linear map


def test_what_has_nothing_in_common_is_near_zero_however_many_channels():
    """The plain estimate is near 1 there: with so many channels, every image is as far from each other one."""
    x, y = activations(32, 4000, 1), activations(32, 4000, 2)
    assert abs(compare(x, y)) < 0.15
    centered = [z - z.mean(0) for z in (x, y)]
    plain = (centered[0].T @ centered[1]).square().sum()
    plain = plain / torch.linalg.norm(centered[0].T @ centered[0]) / torch.linalg.norm(centered[1].T @ centered[1])
    assert plain > 0.9


def test_a_layer_that_is_the_same_for_all_images_has_none():
    x = activations()
    assert np.isnan(compare(x, torch.full_like(x, 3.1)))
    with pytest.raises(UserError, match='3 images'):
        compare(x[:3], x[:3])


@pytest.mark.parametrize('name', ['ViT', 'ViT, windows and relative positions', 'BEiT, visible tokens', 'Eva, DINOv3'])
def test_the_layers_of_a_transformer_are_its_levels(name):
    """Of a ViT that returns every block, without a last norm."""
    config = ENCODERS[name] | {'out_indices': (0, 1), 'final_norm': False}
    encoder = randomized(build(Encoder, config)).eval()
    outputs = list_outputs(encoder, images(), lambda x: x)
    features = encoder.encode(images())
    assert name_layers(encoder) == ['block 1', 'block 2']
    for output, x, prefix in zip(outputs, features.maps, features.prefixes, strict=True):
        tokens = x.flatten(2).transpose(1, 2)
        torch.testing.assert_close(output, tokens if prefix is None else torch.cat([prefix, tokens], 1))


@pytest.mark.parametrize(('name', 'blocks'), [('ConvNeXt', 3), ('Hiera', 3), ('Swin', 4), ('SparseCNN', 0)])
def test_the_last_layer_of_a_stage_is_its_level(name, blocks):
    encoder = randomized(build(Encoder, dict(ENCODERS[name]))).eval()
    names, outputs = name_layers(encoder), list_outputs(encoder, images(), lambda x: x)
    assert len(outputs) == len(names) and (not blocks or len(names) == blocks)
    assert not any('run_function' in vars(m) or m._forward_hooks for m in encoder.modules())
    last = encoder.encode(images()).maps[-1]
    assert outputs[-1].numel() == last.numel()
    if name in ('Hiera', 'SparseCNN'):  # no norm behind it
        torch.testing.assert_close(outputs[-1].flatten(1).sort()[0], last.flatten(1).sort()[0])


def test_encoders_of_different_families_are_compared():
    torch.manual_seed(0)
    imgs = torch.randn(12, 3, 1, 1) + 0.3 * torch.randn(12, 3, 32, 48)  # their colors differ most
    first, second = (build(Encoder, dict(ENCODERS[name])).eval() for name in ('ViT', 'ConvNeXt'))
    values, count = compare_layers(first, second, [(imgs[:6], imgs[:6]), (imgs[6:10], imgs[6:10]), (imgs[10:],) * 2])
    assert values.shape == (len(name_layers(first)), len(name_layers(second))) and count == 10
    assert values.min() > 0.3
    shuffled, _ = compare_layers(first, second, [(imgs[:6], imgs[:6].flip(0)), (imgs[6:], imgs[6:].flip(0))])
    assert shuffled.mean() < values.mean() - 0.2
    own, _ = compare_layers(first, first, [(imgs, imgs)])
    np.testing.assert_allclose(np.diag(own), 1)
    np.testing.assert_allclose(own, own.T)


@pytest.mark.slow
def test_the_function_compares_the_same_images(tmp_path):
    write_run(tmp_path / 'vit', EXPORTED['ViT'])
    write_run(tmp_path / 'cnn', EXPORTED['ResNet'])
    pixels = [make_image(seed) for seed in range(7)]
    extractor = load_feature_extractor(tmp_path / 'cnn', size=(64, 64), device='cpu')
    found = explain_cka(tmp_path / 'vit', pixels, other=extractor, device='cpu')
    assert found.numbers['images'] == 7 and found.numbers['names'][1] == 'cnn'
    assert found.numbers['other_layers'] == [f'level {i}' for i in range(1, 6)]
    assert np.array(found.numbers['cka']).shape == (2, 5) and extractor.batch_size == 32
    (tmp_path / 'photos').mkdir()
    (tmp_path / 'photos' / 'a.jpg').write_bytes(b'broken')
    with pytest.raises(UserError, match='1 are too few'):
        explain_cka(tmp_path / 'vit', tmp_path / 'photos', device='cpu')
    alone = explain_cka(tmp_path / 'vit', [*pixels[:5], tmp_path / 'photos'], device='cpu')
    assert alone.numbers['images'] == 5 and alone.numbers['cka'][1][1] == 1 and len(alone.skipped) == 1


def test_nothing_is_left_on_a_block_that_fails():
    encoder = build(Encoder, dict(ENCODERS['Swin'])).eval()
    with pytest.raises(ZeroDivisionError):
        list_outputs(encoder, images(), lambda x: 1 / 0)
    assert not any('run_function' in vars(m) or m._forward_hooks for m in encoder.modules())
    assert isinstance(encoder.list_blocks()[0], nn.Module)
