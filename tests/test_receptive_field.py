"""The effective receptive field: that of convolutions by hand, of every encoder, and by finite differences."""

import numpy as np
import pytest
import torch
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.explanation.receptive_field import ReceptiveField, measure_receptive_field
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.features import Features
from mae_toolkit.registry import build
from mae_toolkit.visualization.explanation.receptive_field import draw_receptive_field
from parts import ENCODERS, images, randomized


class Convolutions(Encoder):
    """Two 3x3 convolutions whose weights are all 1: a 5x5 triangle of paths."""

    def __init__(self, channels=1):
        super().__init__()
        self.in_chans, self.out_channels, self.out_strides, self.mask_unit = 1, (channels,), (1,), 1
        self.body = nn.Sequential(*(nn.Conv2d(*c, 3, padding=1, bias=False) for c in ((1, 1), (1, channels))))
        for conv in self.body:
            nn.init.ones_(conv.weight)

    def stages(self, x, cells):
        return Features.from_maps([self.body(x)])


@pytest.mark.parametrize('channels', [1, 4])
def test_it_is_that_of_convolutions_by_hand(channels):
    field = measure_receptive_field(Convolutions(channels), [torch.randn(200, 1, 11, 13)], 1)
    expected = np.zeros((11, 13))
    expected[3:8, 4:9] = np.outer([1, 2, 3, 2, 1], [1, 2, 3, 2, 1])
    assert field.center == (5.5, 6.5) and field.images == 200
    ratio = field.gradient / field.gradient.max()
    np.testing.assert_allclose(ratio, expected / 9, atol=1e-6)
    # Of 81, the peak and its eight neighbors hold 49; without the corners 33.
    assert field.radius(33 / 81) == 1 and field.radius(0.42) == pytest.approx(2**0.5)
    assert field.area(9 / 81) == 1 and field.area(33 / 81) == 5 and field.area(1) == 25


def test_equal_signs_would_measure_nothing_behind_a_layer_norm():
    torch.manual_seed(0)
    encoder = build(Encoder, dict(ENCODERS['ViT'])).eval()  # its last norm has weights of 1
    assert measure_receptive_field(encoder, [images()], 1).gradient.max() > 0.01
    x = images().requires_grad_()
    encoder.encode(x).maps[0][:, :, 2, 3].sum().backward()
    assert x.grad.abs().max() < 1e-5


@pytest.mark.parametrize('name', ['ViT', 'ConvNeXt', 'Hiera', 'Swin', 'SparseCNN', 'Eva, DINOv3'])
def test_it_agrees_with_finite_differences(name):
    """Averaged over many signs, the square is the sum over channels of the squared derivatives."""
    torch.manual_seed(0)
    encoder = randomized(build(Encoder, dict(ENCODERS[name]))).double().eval()
    level, img = len(encoder.out_channels), images()[:1].double()
    field = measure_receptive_field(encoder, [img] * 60, level)
    h, w = (n // encoder.out_strides[-1] // 2 for n in img.shape[-2:])
    assert field.center == ((h + 0.5) * encoder.out_strides[-1], (w + 0.5) * encoder.out_strides[-1])
    row, column = divmod(int(field.gradient.argmax()), img.shape[-1])
    squares = 0.0
    for channel in range(img.shape[1]):
        step = torch.zeros_like(img)
        step[0, channel, row, column] = 1e-5
        with torch.no_grad():
            change = encoder.encode(img + step).maps[-1] - encoder.encode(img - step).maps[-1]
        squares += float(change[0, :, h, w].square().sum()) / 4e-10
    assert field.gradient[row, column] == pytest.approx(squares**0.5, rel=0.35)


def test_nothing_is_left_behind_and_signs_follow_the_seed():
    encoder = build(Encoder, dict(ENCODERS['ViT'])).train()
    first, again, other = (measure_receptive_field(encoder, [images()], 1, seed).gradient for seed in (0, 0, 1))
    assert encoder.training and all(p.grad is None for p in encoder.parameters())
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_what_cannot_be_measured_is_refused():
    encoder = Convolutions()
    with pytest.raises(UserError, match='several sizes'):
        measure_receptive_field(encoder, [torch.randn(1, 1, 8, 8), torch.randn(1, 1, 8, 9)], 1)
    with pytest.raises(UserError, match='no images'):
        measure_receptive_field(encoder, [], 1)
    nn.init.zeros_(encoder.body[1].weight)
    with pytest.raises(UserError, match='zero'):
        measure_receptive_field(encoder, [torch.randn(1, 1, 8, 8)], 1)


def test_the_picture_has_the_shape_of_the_field():
    gradient = np.zeros((20, 60))
    gradient[10, 30] = 1
    field = ReceptiveField(gradient, (10.5, 30.5), 4, 1)
    picture = draw_receptive_field(gradient, field.center, {0.5: field.radius(0.5), 0.95: 9.0}, 'title')
    assert picture.mode == 'RGB' and picture.width > 1.3 * picture.height
    pixels = np.asarray(picture).astype(int)
    assert (pixels.sum(2) > 60).any() and len(np.unique(pixels.reshape(-1, 3), axis=0)) > 50
