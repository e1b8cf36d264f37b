"""The perceptual loss: its formula, its weights, and where it counts."""

import pytest
import torch
from torch.nn.functional import interpolate, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.models import Loss, Target
from mae_toolkit.models.losses import PerceptualLoss
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.registry import build
from parts import images, make_model

NETWORK = {'type': 'SparseCNN', 'arch': 'resnet18', 'out_indices': (0, 1)}


def loss_of(in_chans=3, **arguments):
    target = build(Target, {'type': 'PixelTarget', 'patch': 8, 'in_chans': in_chans})
    return build(Loss, {'type': 'PerceptualLoss', 'network': NETWORK} | arguments | {'target': target})


def cells(seed=0):
    """(2, 1, 4, 6) bool, of two images not the same number."""
    return torch.rand(2, 1, 4, 6, generator=torch.Generator().manual_seed(seed)) < 0.5


def test_it_is_the_formula_of_lpips(tmp_path):
    factors = {f'lin{i}.model.1.weight': torch.rand(1, 64, 1, 1) for i in range(2)}
    torch.save(factors, tmp_path / 'vgg.pth')
    loss = loss_of(linear=str(tmp_path / 'vgg.pth'))
    original, other, predict = images(), images(seed=1), cells()
    picture = torch.where(upsample(predict, (32, 48)), other, original)
    wanted = 0
    for i, (x, y) in enumerate(zip(loss.network(picture), loss.network(original), strict=True)):
        x, y = x / x.square().sum(1, keepdim=True).sqrt(), y / y.square().sum(1, keepdim=True).sqrt()
        distance = (factors[f'lin{i}.model.1.weight'] * (x - y) ** 2).sum(1, keepdim=True)
        where = upsample(predict, distance.shape[-2:])
        wanted += distance[where].mean()
    value = loss(pixel_unshuffle(other, 8), pixel_unshuffle(original, 8), predict)
    torch.testing.assert_close(value, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_equal_pictures_have_no_distance_and_a_gradient_that_is_a_number():
    """Dark features have no length: nothing is divided by zero."""
    loss = loss_of(network={'type': 'SparseCNN', 'arch': 'vgg11', 'out_indices': (0, 1)})
    pred = torch.zeros(2, 192, 4, 6, requires_grad=True)
    value = loss(pred, torch.zeros(2, 192, 4, 6), cells())
    value.backward()
    assert value == 0 and pred.grad.isfinite().all()
    with torch.no_grad():
        for p in loss.network.parameters():
            p.neg_() if p.dim() == 4 else p.fill_(-9)
    pred.grad = None
    loss(pred, torch.ones(2, 192, 4, 6), cells()).backward()
    assert pred.grad.isfinite().all()


def test_a_distance_pulls_predicted_cells_alone():
    loss, predict = loss_of(), cells()
    pred = pixel_unshuffle(images(seed=1), 8).requires_grad_()
    loss(pred, pixel_unshuffle(images(), 8), predict).backward()
    assert torch.equal(pred.grad.any(1, keepdim=True), predict)
    assert all(p.grad is None for p in loss.network.parameters())


def test_a_smaller_error_has_a_smaller_distance():
    loss, predict, original = loss_of(), cells(), images()
    blurred = interpolate(interpolate(original, scale_factor=0.5), scale_factor=2)
    near, far = ((1 - share) * original + share * blurred for share in (0.2, 0.8))
    near, far = (loss(pixel_unshuffle(x, 8), pixel_unshuffle(original, 8), predict) for x in (near, far))
    assert 0 < near < far


def test_statistics_of_the_images_count():
    other = loss_of(mean=(0.0, 0, 0), std=(100.0, 100, 100))
    loss = loss_of()
    other.load_state_dict(loss.state_dict())
    pred, target = (pixel_unshuffle(images(seed=seed), 8) for seed in (0, 1))
    assert not torch.isclose(other(pred, target, cells()), loss(pred, target, cells()))


@pytest.mark.slow
def test_the_network_is_by_default_the_five_levels_of_vgg16():
    loss = loss_of(network=None)
    assert (loss.network.channels, loss.network.strides) == ((64, 128, 256, 512, 512), (1, 2, 4, 8, 16))


def test_it_is_one_loss_of_an_objective():
    losses = [{'type': 'MaskedL2Loss'}, {'type': 'PerceptualLoss', 'network': NETWORK, 'weight': 0.1}]
    model = make_model(objectives={'pixel': {'target': {'type': 'PixelTarget'}, 'losses': losses}})
    assert isinstance(model.objectives['pixel'].losses[1], PerceptualLoss)
    value = model(images(), mode='loss')['loss_pixel']
    value.backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_pictures_of_other_channels_are_refused():
    with pytest.raises(UserError, match='The images have 1 channels, and the network .* takes 3'):
        loss_of(in_chans=1)
    loss_of(in_chans=1, network={**NETWORK, 'in_chans': 1})


def test_targets_that_are_no_picture_are_refused():
    with pytest.raises(UserError, match='the loss compares pictures'):
        make_model(target='PixelTarget normalized', loss='PerceptualLoss')


def test_linear_weights_of_another_network_are_refused(tmp_path):
    torch.save({'lin0.model.1.weight': torch.rand(1, 64, 1, 1)}, tmp_path / 'alex.pth')
    with pytest.raises(UserError, match=r'for channels \(64, None\), and the network gives \(64, 64\)'):
        loss_of(linear=str(tmp_path / 'alex.pth'))
