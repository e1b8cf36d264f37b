"""Losses against other implementations, and what they refuse."""

import numpy as np
import pytest
import torch
from skimage.metrics import structural_similarity
from torch.nn.functional import cross_entropy, pixel_shuffle, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.models import Loss, PictureLoss, PixelTarget
from mae_toolkit.models.losses import FocalFrequencyLoss, MaskedCrossEntropyLoss, MaskedL2Loss, SSIMLoss
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.models.rules import check_loss_kind
from mae_toolkit.models.targets import CodebookTarget, HOGTarget
from mae_toolkit.models.wiring import Wiring
from mae_toolkit.registry import build
from parity import Fixture
from parts import images, make_model

MEAN, STD = (123.675, 116.28, 103.53), (58.395, 57.12, 57.375)
SOME = torch.tensor([[True, False, True], [False, False, True]]).view(1, 1, 2, 3).expand(2, -1, -1, -1)


def close(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


# Cross-entropy of codes


@pytest.mark.parametrize('label_smoothing', [0.0, 0.1])
def test_cross_entropy_is_the_mean_over_the_predicted_cells(label_smoothing):
    scores, codes = torch.randn(2, 7, 4, 6, requires_grad=True), torch.randint(7, (2, 1, 4, 6))
    where = upsample(SOME, (4, 6))[:, 0]
    picked = scores.permute(0, 2, 3, 1)[where]
    expected = cross_entropy(picked, codes[:, 0][where], label_smoothing=label_smoothing)
    loss = MaskedCrossEntropyLoss(label_smoothing)(scores, codes, SOME)
    close(loss, expected)
    loss.backward()
    assert not scores.grad[~where.unsqueeze(1).expand_as(scores)].any()
    close(MaskedCrossEntropyLoss()(torch.zeros(2, 7, 4, 6), codes, SOME), torch.tensor(7.0).log())


def test_cross_entropy_in_float32_and_for_many_codes():
    """Codes are not rounded to the type of the prediction: in float32 16777217 would be another code."""
    codes = torch.tensor([[2**24 + 1, 0]]).view(1, 1, 1, 2)
    loss, seen = MaskedCrossEntropyLoss(), []
    loss.distance = lambda pred, target: (seen.append(target), pred)[1]
    assert loss(torch.zeros(1, 1, 1, 2), codes, torch.ones(1, 1, 1, 2, dtype=torch.bool)).dtype is torch.float32
    assert torch.equal(seen[0], codes)
    model = make_model(target='CodebookTarget', loss='MaskedCrossEntropyLoss')
    with torch.autocast('cpu', torch.bfloat16):
        value = model(images(), mode='loss')['loss_pixel']
    assert value.dtype is torch.float32
    assert model.double()(images().double(), mode='loss')['loss_pixel'].dtype is torch.float64


# Pictures


class Seen(PictureLoss):
    """Keeps what it was given."""

    def compare(self, picture, original, predict):
        self.seen = picture, original, predict
        return (picture - original).square().sum()


def test_pictures_are_pasted():
    """Predicted cells from the prediction, the others from the original, in the order of pixels."""
    original, predicted = images(channels=2), images(channels=2, seed=1)
    loss = Seen(PixelTarget(8, 2))
    assert (loss.stride, loss.channels) == (8, 2)
    pred = pixel_unshuffle(predicted, 8).requires_grad_()
    value = loss(pred, pixel_unshuffle(original, 8), SOME)
    picture, truth, where = loss.seen
    assert torch.equal(truth, original)
    assert torch.equal(where, upsample(SOME, (32, 48)))
    assert torch.equal(picture, torch.where(where, predicted, original))
    value.backward()
    assert torch.equal(pixel_shuffle(pred.grad, 8).abs().sum(1, keepdim=True) > 0, where)


def test_pictures_are_compared_in_at_least_float32_and_not_under_autocast():
    loss, target = Seen(PixelTarget(8)), PixelTarget(8)(images())
    for dtype, expected in ((torch.bfloat16, torch.float32), (torch.float64, torch.float64)):
        with torch.autocast('cpu', torch.bfloat16):
            loss.compare = lambda picture, *_: (torch.is_autocast_enabled('cpu'), picture.dtype)
            assert loss(target.to(dtype), target, SOME) == (False, expected)


def both(loss, seed=1):
    """A picture loss of two random pictures, and the pictures as arrays (B, C, H, W)."""
    original, predicted = images().double(), images(seed=seed).double()
    value = loss.double()(pixel_unshuffle(predicted, 8), pixel_unshuffle(original, 8), SOME)
    return value, torch.where(upsample(SOME, (32, 48)), predicted, original).numpy(), original.numpy()


@pytest.mark.parametrize('alpha', [0.0, 1.0, 2.0])
@pytest.mark.parametrize('pieces', [1, 2, 4])
def test_focal_frequency_by_its_formula(alpha, pieces):
    value, fake, real = both(FocalFrequencyLoss(PixelTarget(8), alpha, pieces))
    total, (h, w) = [], (32 // pieces, 48 // pieces)
    rows, columns = (np.exp(-2j * np.pi * np.outer(range(n), range(n)) / n) / np.sqrt(n) for n in (h, w))
    for b, c, y, x in np.ndindex(2, 3, pieces, pieces):
        cut = np.s_[b, c, y * h : (y + 1) * h, x * w : (x + 1) * w]
        distance = np.abs(rows @ real[cut] @ columns - rows @ fake[cut] @ columns)
        weights = distance**alpha
        total.append((weights / weights.max() * distance**2).mean() if weights.max() else 0.0)
    assert value.item() == pytest.approx(np.mean(total), rel=1e-9)


def test_focal_frequency_without_weights_is_the_squared_error_and_weights_have_no_gradient():
    target = PixelTarget(8)
    value, fake, real = both(FocalFrequencyLoss(target, alpha=0))
    assert value.item() == pytest.approx(((fake - real) ** 2).mean())
    pred, truth = (pixel_unshuffle(images(seed=i), 8) for i in (1, 0))
    pred.requires_grad_()
    everywhere = torch.ones_like(SOME)
    loss = FocalFrequencyLoss(target)(pred, truth, everywhere)
    loss.backward()
    difference = torch.fft.fft2(pixel_shuffle(pred.detach() - truth, 8), norm='ortho')
    weights = difference.abs() / difference.abs().amax((-2, -1), keepdim=True)
    expected = 2 * torch.fft.ifft2(weights * difference, norm='ortho').real / difference.numel()
    close(pixel_shuffle(pred.grad, 8), expected, 1e-7)


def test_focal_frequency_of_equal_pictures_is_zero_with_a_finite_gradient():
    pred = pixel_unshuffle(images(), 8).requires_grad_()
    loss = FocalFrequencyLoss(PixelTarget(8))(pred, pred.detach(), SOME)
    loss.backward()
    assert loss.item() == 0 and not pred.grad.any()


def photographs(data):
    return Fixture(data, 'maskfeat_hog')['image_uint8'][:2, :, :64, :96].double()


@pytest.mark.parametrize('data_range', [None, 4095.0])
def test_structural_similarity_as_scikit_image(data, data_range):
    """Of every pixel, in bytes or a stated range, from images that are normalized."""
    mean, std = (torch.tensor(x).double().view(3, 1, 1) for x in (MEAN, STD))
    real = photographs(data)
    fake = (real + 20 * torch.randn(real.shape)).clip(0, 255).round()
    loss = SSIMLoss(PixelTarget(16), MEAN, STD, data_range).double()
    loss.mean, loss.std = mean, std
    ours = loss.similarity((fake - mean) / std, (real - mean) / std)
    options = dict(gaussian_weights=True, sigma=1.5, use_sample_covariance=False, full=True)
    for a, b, similarity in zip(fake, real, ours, strict=True):
        for c in range(3):
            _, full = structural_similarity(a[c].numpy(), b[c].numpy(), data_range=data_range or 255, **options)
            close(similarity[c], torch.from_numpy(full), 1e-6)  # the window is in float32


def test_the_loss_is_the_mean_over_the_predicted_pixels(data):
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (MEAN, STD))
    real = photographs(data).float()
    imgs, predicted = (real - mean) / std, images(size=(64, 96))
    loss = SSIMLoss(PixelTarget(16), MEAN, STD)
    some = upsample(SOME, (4, 6))
    where = upsample(some, (64, 96))
    pasted = torch.where(where, predicted, imgs)
    expected = 1 - loss.similarity(pasted, imgs)[where.expand(-1, 3, -1, -1)].mean()
    close(loss(pixel_unshuffle(predicted, 16), pixel_unshuffle(imgs, 16), some), expected)
    close(loss.similarity(imgs, imgs), torch.ones_like(imgs))
    exact = SSIMLoss(PixelTarget(16), MEAN, STD).double().similarity(pasted.double(), imgs.double())
    close(loss.similarity(pasted, imgs).double(), exact, 1e-4)  # float32 is enough


def test_similarity_is_that_of_images_that_are_not_normalized():
    x, y = torch.rand(2, 2, 1, 32, 48)
    plain = SSIMLoss(PixelTarget(8, 1), data_range=1.0)
    normalized = SSIMLoss(PixelTarget(8, 1), (0.4,), (0.2,), data_range=1.0)
    close(normalized.similarity((x - 0.4) / 0.2, (y - 0.4) / 0.2), plain.similarity(x, y), 1e-4)


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        ({'type': 'SSIMLoss'}, 'no data_preprocessor normalizes: give their data_range'),
        ({'type': 'SSIMLoss', 'mean': (9000.0,), 'std': (4000.0,)}, 'mean 9000 .*no data_range of 255'),
        ({'type': 'SSIMLoss', 'mean': (0.45,), 'std': (0.2,)}, 'mean 0.45 .*no data_range of 255'),
        ({'type': 'SSIMLoss', 'data_range': 0}, 'data_range=0'),
        ({'type': 'SSIMLoss', 'data_range': 1.0, 'window': 10}, 'window=10'),
        ({'type': 'FocalFrequencyLoss', 'alpha': -1}, 'alpha=-1'),
        ({'type': 'FocalFrequencyLoss', 'patch_factor': 0}, 'patch_factor=0'),
        ({'type': 'MaskedCrossEntropyLoss', 'label_smoothing': 1.0}, 'label_smoothing=1.0'),
    ],
)
def test_arguments_that_make_no_sense(config, words):
    with pytest.raises(UserError, match=words):
        build(Loss, config, Wiring(target=PixelTarget(8)))


def test_ranges_that_fit_the_images():
    for mean, std, data_range in ((MEAN, STD, None), ((5.0,), (8.0,), None), ((9000.0,), (4000.0,), 65535)):
        SSIMLoss(PixelTarget(8, len(mean)), mean, std, data_range)


def test_pictures_of_other_sizes():
    pred = torch.zeros(1, 3 * 16, 1, 2)
    with pytest.raises(UserError, match='4 x 8 pixels are too small for window=11'):
        SSIMLoss(PixelTarget(4), data_range=1.0)(pred, pred, torch.ones(1, 1, 1, 2, dtype=torch.bool))
    with pytest.raises(UserError, match='patch_factor=3 does not divide pictures of 4 x 8'):
        FocalFrequencyLoss(PixelTarget(4), patch_factor=3)(pred, pred, torch.ones(1, 1, 1, 2, dtype=torch.bool))


# What compares with what


@pytest.mark.parametrize(
    ('target', 'loss', 'sentence'),
    [
        (
            PixelTarget(8),
            MaskedCrossEntropyLoss,
            'MaskedCrossEntropyLoss of PixelTarget: the loss compares codes, and the target gives pictures; choose a '
            'target of codes, or another loss.',
        ),
        (
            CodebookTarget(8),
            MaskedL2Loss,
            'MaskedL2Loss of CodebookTarget: the loss compares pictures, normalized patches or vectors, and the target '
            'gives codes; choose MaskedCrossEntropyLoss, or another target.',
        ),
        (
            PixelTarget(8, norm_pix=True),
            SSIMLoss,
            'SSIMLoss of PixelTarget: the loss compares pictures, and the target gives normalized patches; set '
            'norm_pix=False, or choose another loss.',
        ),
        (
            HOGTarget(8),
            FocalFrequencyLoss,
            'FocalFrequencyLoss of HOGTarget: the loss compares pictures, and the target gives vectors; choose the '
            'PixelTarget, or another loss.',
        ),
    ],
)
def test_sentences_of_what_does_not_go_together(target, loss, sentence):
    assert str(check_loss_kind(target, loss)) == sentence
    assert check_loss_kind(PixelTarget(8), MaskedL2Loss) is None
    config = {'type': loss.__name__} | ({'data_range': 1.0} if loss is SSIMLoss else {})
    with pytest.raises(UserError) as error:
        make_model(objectives={'one': {'target': target, 'losses': [config]}})
    assert str(error.value) == sentence


def test_an_unknown_kind_of_target_is_refused_with_the_known_ones():
    class Own(PixelTarget):
        kind = 'pixels'

    class Compares(MaskedL2Loss):
        compares = ('pixels',)

    known = "'picture', 'patches', 'vectors', 'codes'"
    with pytest.raises(UserError, match=f"Own has the kind 'pixels'; known are {known}"):
        make_model(target={'type': Own})
    with pytest.raises(UserError, match=f"compares the kinds .'pixels',. of targets; known are {known}"):
        make_model(loss={'type': Compares})


def test_losses_of_one_objective_are_summed():
    one = [{'type': 'MaskedL2Loss'}, {'type': 'SSIMLoss', 'weight': 0.1}, {'type': 'FocalFrequencyLoss', 'weight': 0.5}]
    model = make_model(
        objectives={'pixel': {'target': {'type': 'PixelTarget'}, 'losses': one}},
        data_preprocessor={'type': 'mae_toolkit.ImagePreprocessor', 'mean': MEAN, 'std': STD},
    )
    mask = model.masking(images())
    total = model(images(), mask=mask, mode='loss')['loss_pixel']
    pred, target = model(images(), mask=mask, mode='predict')[0]['pixel'], PixelTarget(8)(images())
    parts = [MaskedL2Loss(), SSIMLoss(PixelTarget(8), MEAN, STD), FocalFrequencyLoss(PixelTarget(8))]
    l2, ssim, frequency = (loss(pred, target, mask) for loss in parts)
    close(total, l2 + 0.1 * ssim + 0.5 * frequency)
