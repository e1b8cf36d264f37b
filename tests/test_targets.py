"""Targets beside pixels and HOG: pyramids and codes."""

import pytest
import torch
from safetensors.torch import save_file
from torch.nn.functional import pixel_shuffle, pixel_unshuffle

from mae_toolkit.codebook.kmeans import kmeans, squared_distances
from mae_toolkit.errors import UserError
from mae_toolkit.models import PixelTarget, Target
from mae_toolkit.models.targets import CodebookTarget, LaplacianTarget, codebook_target
from mae_toolkit.models.targets.codebook_target import find_nearest
from mae_toolkit.models.targets.laplacian_target import gaussian_pyramid, laplacian_bands
from mae_toolkit.registry import build
from parts import images, make_model


def close(ours, theirs, tolerance=1e-5):
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


@pytest.mark.parametrize('levels', [1, 2, 4])
@pytest.mark.parametrize('weights', [None, (0.5, 1, 2, 3)])
@pytest.mark.parametrize(('size', 'channels'), [((32, 48), 3), ((8, 40), 1)])
def test_the_bands_together_are_the_image(levels, weights, size, channels):
    imgs = images(size=size, channels=channels)
    target = LaplacianTarget(8, channels, levels, weights=weights and weights[:levels])
    out = target(imgs)
    assert out.shape == (2, target.channels, size[0] // 8, size[1] // 8)
    assert target.channels == sum(channels * (8 // 2**k) ** 2 for k in range(levels))
    close(target.to_image(out), imgs)
    if levels == 1 and weights is None:
        assert torch.equal(out, PixelTarget(8, channels)(imgs))


def test_bands_lie_in_the_order_of_pixel_unshuffle_and_are_weighted():
    imgs = images()
    fine, coarse = LaplacianTarget(8, levels=2, weights=(2, 3))(imgs).split([192, 48], 1)
    levels = gaussian_pyramid(imgs, 2)
    bands = laplacian_bands(levels)
    close(pixel_shuffle(fine, 8), 2 * bands[0])
    close(pixel_shuffle(coarse, 4), 3 * bands[1])
    scales = LaplacianTarget(8, levels=2, bands=False)
    close(scales(imgs), torch.cat([pixel_unshuffle(imgs, 8), pixel_unshuffle(levels[1], 4)], 1))
    assert torch.equal(scales.to_image(scales(imgs)), imgs)


def test_a_level_is_blurred_by_the_kernel_of_burt_and_adelson():
    imgs = torch.zeros(1, 1, 8, 8)
    imgs[..., 4, 4] = 256
    expected = torch.outer(torch.tensor([0.0, 1, 6, 1]), torch.tensor([0.0, 1, 6, 1]))
    close(gaussian_pyramid(imgs, 2)[1][0, 0], expected)
    doubled = LaplacianTarget(2, 1, levels=2)
    band = torch.zeros(1, 5, 4, 4)
    band[:, 4, 2, 1] = 64  # in the coarse band alone
    down, across = torch.tensor([0.0, 0, 1, 4, 6, 4, 1, 0]), torch.tensor([1.0, 4, 6, 4, 1, 0, 0, 0])
    close(doubled.to_image(band)[0, 0], torch.outer(down, across))


def test_what_is_even_or_a_ramp_is_in_the_coarsest_band_alone():
    target = LaplacianTarget(8, levels=3)
    ramp = (torch.arange(64.0).view(-1, 1) + 2 * torch.arange(96.0)).expand(1, 3, -1, -1)
    fine = target(ramp)[:, : -target.sizes[-1], 3:-3, 3:-3]  # away from the edges
    close(fine, torch.zeros_like(fine), 1e-4)
    assert target(torch.full((1, 3, 32, 48), 0.7))[:, : -target.sizes[-1]].abs().max() < 1e-6


@pytest.mark.parametrize('bands', [True, False])
def test_bands_normalized_per_patch(bands):
    imgs, target = images(), LaplacianTarget(8, levels=3, bands=bands, norm_pix=True, weights=(1, 2, 3))
    out = target(imgs)
    for band, weight in zip(out.split(target.sizes, 1), (1, 2, 3), strict=True):
        close(band.mean(1), torch.zeros(2, 4, 6), 1e-4)
        close(band.std(1), torch.full((2, 4, 6), float(weight)), 1e-3)
    close(target.to_image(out, target.statistics(imgs)), imgs, 1e-4)


@pytest.mark.parametrize(
    ('options', 'words'),
    [
        ({'levels': 5}, 'levels=5 need a patch that 2\\^4 divides, and it has 8'),
        ({'levels': 0}, 'levels=0'),
        ({'weights': (1, 1)}, 'must be 3 numbers above 0'),
        ({'weights': (1, 0, 1)}, 'must be 3 numbers above 0'),
        ({'levels': 4, 'in_chans': 1, 'norm_pix': True}, 'band 4 has one value'),
    ],
)
def test_refusals_of_the_pyramid(options, words):
    with pytest.raises(UserError, match=words):
        build(Target, {'type': 'LaplacianTarget', 'patch': 8, **options})


def test_images_that_the_patch_does_not_divide():
    with pytest.raises(UserError, match='30 x 48'):
        LaplacianTarget(8)(images(size=(30, 48)))


@pytest.mark.parametrize('target', [LaplacianTarget(8, levels=2), CodebookTarget(8, num_codes=40)])
def test_in_at_least_float32_and_without_gradient(target):
    imgs = images(4)
    expected = target(imgs)
    with torch.autocast('cpu', torch.bfloat16):
        assert torch.equal(target(imgs), expected)
    assert target(imgs.half()).dtype in (torch.float32, torch.int64)
    assert target(imgs.double()).dtype in (torch.float64, torch.int64)
    assert not target(imgs.requires_grad_()).requires_grad


def test_codes_are_the_nearest_centers(tmp_path, monkeypatch):
    """Each patch itself is its center, in another order; a few similarities at once give the same."""
    imgs = images(channels=2)
    patches = PixelTarget(8, 2, norm_pix=True)(imgs).flatten(2).mT.flatten(0, 1)  # (48, 128)
    order = torch.randperm(48)
    path = tmp_path / 'centers.safetensors'
    save_file({'centers': patches[order].contiguous()}, path)
    target = build(Target, {'type': 'CodebookTarget', 'centers': str(path), 'patch': 8, 'in_chans': 2})
    assert (target.kind, target.channels, target.stride) == ('codes', 48, 8)
    codes = target(imgs)
    assert codes.shape == (2, 1, 4, 6) and codes.dtype is torch.int64
    assert torch.equal(order[codes.flatten()], torch.arange(48))
    monkeypatch.setattr(codebook_target, 'CHUNK', 100)
    assert torch.equal(target(imgs), codes)
    assert torch.equal(target(3 * imgs + 5), codes)
    assert torch.equal(target.patches(imgs), PixelTarget(8, 2, norm_pix=True)(imgs))
    plain = CodebookTarget(8, 2, centers=path, norm_pix=False)
    assert torch.equal(plain.patches(imgs), PixelTarget(8, 2)(imgs))


def test_nearest_is_that_of_the_least_distance():
    points, centers = torch.randn(50, 7), 3 * torch.randn(9, 7)
    assert torch.equal(find_nearest(points, centers), torch.cdist(points, centers).argmin(1))


def test_drawn_centers_are_unit_vectors_of_their_seed():
    torch.manual_seed(1)
    a = CodebookTarget(8, num_codes=64)
    torch.manual_seed(2)
    assert torch.equal(a.centers, CodebookTarget(8, num_codes=64).centers)
    assert not torch.equal(a.centers, CodebookTarget(8, num_codes=64, seed=1).centers)
    close(a.centers.norm(dim=1), torch.ones(64))
    assert CodebookTarget(8).channels == 512
    assert len(a(images(8)).unique()) > 32  # of 64: no few of them take all patches


def test_centers_are_in_the_checkpoint():
    config = {'codes': {'target': {'type': 'CodebookTarget', 'num_codes': 9}, 'losses': [CROSS_ENTROPY]}}
    model, other = (make_model(objectives=config) for _ in range(2))
    model.objectives['codes'].target.centers.mul_(-1)
    other.load_state_dict(model.state_dict())
    target = other.objectives['codes'].target
    assert torch.equal(target.centers, -CodebookTarget(8, num_codes=9).centers)
    assert not list(target.parameters())


CROSS_ENTROPY = {'type': 'MaskedCrossEntropyLoss'}


@pytest.mark.parametrize(
    ('tensors', 'options', 'words'),
    [
        ({'centers': torch.zeros(4, 192)}, {'in_chans': 1}, '192 values, but patches of 1 channels and 8 x 8'),
        ({'centers': torch.zeros(4, 192)}, {'num_codes': 5}, 'holds 4 centers, not num_codes=5'),
        ({'weights': torch.zeros(4, 192)}, {}, 'no matrix "centers"'),
        ({'centers': torch.zeros(192)}, {}, 'no matrix "centers"'),
        (None, {'num_codes': 1}, 'num_codes=1'),
    ],
)
def test_refusals_of_the_codebook(tmp_path, tensors, options, words):
    path = tmp_path / 'centers.safetensors'
    if tensors:
        save_file(tensors, path)
        options = {'centers': str(path), **options}
    with pytest.raises(UserError, match=words):
        build(Target, {'type': 'CodebookTarget', 'patch': 8, **options})


def test_a_codebook_that_is_not_there():
    with pytest.raises(UserError, match=r'no codebook nowhere\.safetensors: make one'):
        CodebookTarget(8, centers='nowhere.safetensors')


def test_kmeans_finds_clusters_and_uses_every_center():
    """Four tight clusters, of which random starts often miss some: then a center is left without points."""
    middles = torch.tensor([[0.0, 0], [10, 0], [0, 10], [10, 10]])
    sizes = (400, 5, 5, 5)
    points = torch.cat([m + 0.1 * torch.randn(n, 2) for m, n in zip(middles, sizes, strict=True)])
    means = torch.stack([part.mean(0) for part in points.split(sizes)])
    found = 0
    for seed in range(10):
        centers = kmeans(points, 4, seed=seed)
        assert len(find_nearest(points, centers).unique()) == 4
        found += torch.cdist(means, centers).amin(1).max() < 1e-4
    assert found >= 1
    many = torch.cat([points[:1].expand(100, -1), points[400:410]])  # equal starts leave centers without points
    assert len(find_nearest(many, kmeans(many, 8)).unique()) == 8


def test_kmeans_goes_downhill_and_repeats_itself():
    points = torch.randn(500, 6)

    def left(iterations):
        centers = kmeans(points, 20, iterations)
        return squared_distances(points, centers, find_nearest(points, centers)).mean().item()

    distances = [left(n) for n in (1, 3, 10, 50)]
    assert distances == sorted(distances, reverse=True) and distances[0] > distances[-1]
    assert torch.equal(kmeans(points, 20), kmeans(points, 20))
    with pytest.raises(UserError, match='500 points have no 501 centers'):
        kmeans(points, 501)
