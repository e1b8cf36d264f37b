"""Pixels at several resolutions as the target."""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import pad, pixel_shuffle, pixel_unshuffle

from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import find_grid
from mae_toolkit.models.targets.target import Target
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class LaplacianTarget(Target):
    """Bands of a Laplacian pyramid of the image: what each resolution adds to the next coarser one.

    The pyramid is that of Burt and Adelson (IEEE Transactions on Communications 31, 1983, sections II and III, with
    a = 0.375). Band k has 1 / 2^k of the resolution and is folded to the stride by ``pixel_unshuffle``; a position
    holds its values of all bands, those of the finest band first. The last band is the image itself at the coarsest
    resolution, so that the bands together give the image. Example: a patch of 16 x 16 pixels and one channel has
    256 + 64 + 16 values in three bands.

    A loss that averages over channels thus weights each band a quarter as much as the next finer one; ``weights``
    changes that.

    Args:
        patch: Pixels per side of a patch, which is the stride; the encoder's last stride by default.
        in_chans: Channels of the images.
        levels: Number of bands.
        bands: If False, the target holds the images themselves at all resolutions: multi-scale pixels.
        weights: Factor of each band, the finest first; 1 for all if None.
        norm_pix: Normalize each band of each patch by its own mean and deviation, as :class:`PixelTarget` does.
        eps: Added to the variance.

    Raises:
        UserError: If the patch is too small for so many levels, or there is not one weight for each level.
    """

    takes = dict(patch='stride', in_chans='in_chans')

    def __init__(
        self,
        patch: int,
        in_chans: int = 3,
        levels: int = 3,
        bands: bool = True,
        weights: Sequence[float] | None = None,
        norm_pix: bool = False,
        eps: float = 1e-6,
    ) -> None:
        super().__init__()
        if levels < 1 or patch % 2 ** (levels - 1):
            raise UserError(
                f'LaplacianTarget: levels={levels} need a patch that 2^{levels - 1} divides, and it has {patch} '
                'pixels: choose fewer levels, 1 or more.'
            )
        weights = (1.0,) * levels if weights is None else tuple(weights)
        if len(weights) != levels or not all(weight > 0 for weight in weights):
            raise UserError(f'LaplacianTarget: weights={weights} must be {levels} numbers above 0, one for each level.')
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
    def forward(self, imgs: Tensor) -> Tensor:
        """Compute the bands: (B, C, H, W) -> (B, T, H/t, W/t) in at least float32."""
        x = self._pyramid(imgs)
        if self.norm_pix:
            mean, std = self.statistics(imgs)
            x = (x - mean) / std
        return self._weight(x)

    def statistics(self, imgs: Tensor) -> tuple[Tensor, Tensor]:
        """Return mean and standard deviation of each band of each patch of images, each (B, T, H/t, W/t)."""
        bands = self._pyramid(imgs).split(self.sizes, 1)
        means = [band.mean(1, keepdim=True).expand_as(band) for band in bands]
        stds = [(band.var(1, keepdim=True) + self.eps).sqrt().expand_as(band) for band in bands]
        return torch.cat(means, 1), torch.cat(stds, 1)

    def to_image(self, prediction: Tensor, statistics: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Turn a prediction (B, T, H/t, W/t) into a picture (B, C, H, W); see :meth:`PixelTarget.to_image`."""
        x = self._weight(prediction, inverse=True)
        if self.norm_pix and statistics is not None:
            x = x * statistics[1] + statistics[0]
        maps = [pixel_shuffle(band, fold) for band, fold in zip(x.split(self.sizes, 1), self.folds, strict=True)]
        return collapse(maps) if self.bands else maps[0]

    def _pyramid(self, imgs: Tensor) -> Tensor:
        """Fold the bands or levels of images, without weights: (B, T, H/t, W/t)."""
        find_grid(imgs, self.stride)
        levels = gaussian_pyramid(imgs.to(torch.promote_types(imgs.dtype, torch.float32)), len(self.folds))
        maps = laplacian_bands(levels) if self.bands else levels
        return torch.cat([pixel_unshuffle(x, fold) for x, fold in zip(maps, self.folds, strict=True)], 1)

    def _weight(self, x: Tensor, inverse: bool = False) -> Tensor:
        """Multiply the bands of a map (B, T, H/t, W/t) by their weights, or divide by them."""
        factors = [1 / weight if inverse else weight for weight in self.weights]
        return torch.cat([band * factor for band, factor in zip(x.split(self.sizes, 1), factors, strict=True)], 1)


def gaussian_pyramid(imgs: Tensor, levels: int) -> list[Tensor]:
    """Reduce images (B, C, H, W) to the resolutions 1, 1/2, 1/4, ...: as many maps as levels."""
    maps = [imgs]
    for _ in range(levels - 1):
        maps.append(_halve(_halve(maps[-1], -2), -1))
    return maps


def laplacian_bands(levels: list[Tensor]) -> list[Tensor]:
    """Subtract from each level of a Gaussian pyramid the expanded next one; the last level stays as it is."""
    return [fine - _expand(coarse) for fine, coarse in pairwise(levels)] + levels[-1:]


def collapse(bands: list[Tensor]) -> Tensor:
    """Rebuild images (B, C, H, W) from the bands of their Laplacian pyramid, the finest first."""
    *finer, x = bands
    for band in reversed(finer):
        x = band + _expand(x)
    return x


def _halve(x: Tensor, dim: int) -> Tensor:
    """Blur by (1, 4, 6, 4, 1) / 16 along a dimension of even length and take every second value; edges repeat."""
    x, half = _repeat_edges(x, dim, 2), x.shape[dim] // 2
    taps = [x.narrow(dim, i, 2 * half).unflatten(dim, (half, 2)).select(dim, 0) for i in range(5)]
    return (taps[0] + taps[4] + 4 * (taps[1] + taps[3]) + 6 * taps[2]) / 16


def _expand(x: Tensor) -> Tensor:
    """Interpolate twice as many rows and columns by the same kernel."""
    return _double(_double(x, -2), -1)


def _double(x: Tensor, dim: int) -> Tensor:
    """Replace each value along a dimension by its blur by (1, 6, 1) / 8 and its mean with the next; edges repeat."""
    x, size = _repeat_edges(x, dim, 1), x.shape[dim]
    before, here, after = (x.narrow(dim, i, size) for i in range(3))
    even, odd = (before + 6 * here + after) / 8, (here + after) / 2
    return torch.stack([even, odd], -1).flatten(-2) if dim == -1 else torch.stack([even, odd], -2).flatten(-3, -2)


def _repeat_edges(x: Tensor, dim: int, count: int) -> Tensor:
    """Pad both ends of a dimension by repeating the last value ``count`` times."""
    return pad(x, (count, count, 0, 0) if dim == -1 else (0, 0, count, count), mode='replicate')
