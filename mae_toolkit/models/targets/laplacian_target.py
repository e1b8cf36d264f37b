"""Pixels at several resolutions as the target."""

from itertools import pairwise

import torch
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import grid_of
from mae_toolkit.models.targets.target import Target
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class LaplacianTarget(Target):
    """The bands of a Laplacian pyramid of the image: what each resolution adds to the next coarser one (Burt and
    Adelson, IEEE Transactions on Communications 31, 1983, sections II and III, with a = 0.375).

    Band k has 1 / 2^k of the resolution and is folded into the stride by ``pixel_unshuffle``; a position holds those
    of all bands, the finest first. The last band is the image itself at the coarsest resolution, so that the bands
    together are the image. A loss that averages over channels thus gives each band a quarter of the share of the next
    finer one; ``weights`` change that.

    Args:
        patch (int): Pixels per patch, at once the stride; the encoder's last stride by default.
        in_chans (int): Channels of the images.
        levels (int): Bands.
        bands (bool): If False, the images themselves at all resolutions, each holding the coarser ones: multi-scale
            pixels.
        weights (tuple[float] | None): Factor of each band, the finest first; 1 for all if None.
        norm_pix (bool): Normalize each band of each patch by its own mean and deviation, as :class:`PixelTarget` does.
        eps (float): Added to the variance.

    Raises:
        UserError: If the patch is too small for so many levels, or the weights are not one for each.
    """

    takes = dict(patch='stride', in_chans='in_chans')

    def __init__(self, patch, in_chans=3, levels=3, bands=True, weights=None, norm_pix=False, eps=1e-6):
        super().__init__()
        if levels < 1 or patch % 2 ** (levels - 1):
            raise UserError(
                f'LaplacianTarget: levels={levels} need a patch that 2^{levels - 1} divides, and it has {patch} '
                'pixels: choose fewer levels, 1 or more.'
            )
        weights = (1.0,) * levels if weights is None else tuple(weights)
        if len(weights) != levels or not all(weight > 0 for weight in weights):
            raise UserError(f'LaplacianTarget: weights={weights} are not {levels} numbers above 0, one for each level.')
        self.folds = tuple(patch // 2**k for k in range(levels))
        self.sizes = [in_chans * fold**2 for fold in self.folds]
        if norm_pix and self.sizes[-1] < 2:
            raise UserError(
                f'LaplacianTarget: band {levels} has one value per patch of {patch} pixels, which has no deviation: '
                f'choose levels={levels - 1}, or norm_pix=False.'
            )
        self.stride, self.channels = patch, sum(self.sizes)
        self.bands, self.weights, self.norm_pix, self.eps = bands, weights, norm_pix, eps

    @torch.no_grad()
    def forward(self, imgs):
        """(B, C, H, W) -> (B, T, H/t, W/t) in at least float32."""
        x = self._pyramid(imgs)
        if self.norm_pix:
            mean, std = self.statistics(imgs)
            x = (x - mean) / std
        return self._weighted(x)

    def statistics(self, imgs):
        """Mean and standard deviation of each band of each patch, each (B, T, H/t, W/t)."""
        bands = self._pyramid(imgs).split(self.sizes, 1)
        means = [band.mean(1, keepdim=True).expand_as(band) for band in bands]
        stds = [(band.var(1, keepdim=True) + self.eps).sqrt().expand_as(band) for band in bands]
        return torch.cat(means, 1), torch.cat(stds, 1)

    def to_image(self, prediction, statistics=None):
        """The picture (B, C, H, W) of a prediction (B, T, H/t, W/t); see :meth:`PixelTarget.to_image`."""
        x = self._weighted(prediction, inverse=True)
        if self.norm_pix and statistics is not None:
            x = x * statistics[1] + statistics[0]
        maps = [pixel_shuffle(band, fold) for band, fold in zip(x.split(self.sizes, 1), self.folds, strict=True)]
        return collapse(maps) if self.bands else maps[0]

    def _pyramid(self, imgs):
        """Bands or levels of images, folded, without weights: (B, T, H/t, W/t)."""
        grid_of(imgs, self.stride)
        levels = gaussian_pyramid(imgs.to(torch.promote_types(imgs.dtype, torch.float32)), len(self.folds))
        maps = laplacian_bands(levels) if self.bands else levels
        return torch.cat([pixel_unshuffle(x, fold) for x, fold in zip(maps, self.folds, strict=True)], 1)

    def _weighted(self, x, inverse=False):
        factors = [1 / weight if inverse else weight for weight in self.weights]
        return torch.cat([band * factor for band, factor in zip(x.split(self.sizes, 1), factors, strict=True)], 1)


def gaussian_pyramid(imgs, levels):
    """Images (B, C, H, W) at resolutions 1, 1/2, 1/4, ...: a list of so many maps."""
    maps = [imgs]
    for _ in range(levels - 1):
        maps.append(_halve(_halve(maps[-1], -2), -1))
    return maps


def laplacian_bands(levels):
    """What each level of a Gaussian pyramid has beyond the next, and the last level itself."""
    return [fine - _expand(coarse) for fine, coarse in pairwise(levels)] + levels[-1:]


def collapse(bands):
    """The images (B, C, H, W) whose Laplacian pyramid has these bands, the finest first."""
    *finer, x = bands
    for band in reversed(finer):
        x = band + _expand(x)
    return x


def _halve(x, dim):
    """Every second value along a dimension of even length, blurred by (1, 4, 6, 4, 1) / 16; edges repeat."""
    x, half = _with_edges(x, dim, 2), x.shape[dim] // 2
    taps = [x.narrow(dim, i, 2 * half).unflatten(dim, (half, 2)).select(dim, 0) for i in range(5)]
    return (taps[0] + taps[4] + 4 * (taps[1] + taps[3]) + 6 * taps[2]) / 16


def _expand(x):
    """Twice as many rows and columns, interpolated by the same kernel."""
    return _double(_double(x, -2), -1)


def _double(x, dim):
    """Between two values their mean, in place of each its own blur by (1, 6, 1) / 8; edges repeat."""
    x, size = _with_edges(x, dim, 1), x.shape[dim]
    before, here, after = (x.narrow(dim, i, size) for i in range(3))
    even, odd = (before + 6 * here + after) / 8, (here + after) / 2
    return torch.stack([even, odd], -1).flatten(-2) if dim == -1 else torch.stack([even, odd], -2).flatten(-3, -2)


def _with_edges(x, dim, count):
    """So many more values at both ends of a dimension: the last one again."""
    return pad(x, (count, count, 0, 0) if dim == -1 else (0, 0, count, count), mode='replicate')
