"""Whether patches find their own place in another crop of the same image."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import affine_grid, grid_sample, normalize

from mae_toolkit.errors import UserError


@dataclass(frozen=True)
class Crops:
    """Parts of images, enlarged to the size of the whole images.

    Coordinates of an image go from -1, its left or upper border, to 1, as torch's ``affine_grid`` has them.

    Attributes:
        theta: (B, 2, 3), the affine map from coordinates of each crop to coordinates of its image.
    """

    theta: Tensor

    @classmethod
    def draw(cls, count: int, generator: torch.Generator, side: tuple[float, float] = (0.6, 1.0)) -> Crops:
        """Draw crops of random place and size, half of them mirrored.

        Args:
            count: B.
            generator: Random numbers, of the CPU.
            side: Least and greatest share of each side.
        """
        low, high = side
        half = low + (high - low) * torch.rand(count, 1, generator=generator)  # (B, 1), half the side
        center = (1 - half) * (2 * torch.rand(count, 2, generator=generator) - 1)  # (B, 2)
        mirrored = torch.where(torch.rand(count, generator=generator) < 0.5, -1.0, 1.0)
        theta = torch.zeros(count, 2, 3)
        theta[:, 0, 0], theta[:, 1, 1], theta[:, :, 2] = half[:, 0] * mirrored, half[:, 0], center
        return cls(theta)

    def cut(self, imgs: Tensor) -> Tensor:
        """Cut the crops out of images: (B, C, H, W) -> (B, C, H, W), by bilinear interpolation."""
        grid = affine_grid(self.theta.to(imgs), list(imgs.shape), align_corners=False)
        return grid_sample(imgs, grid, padding_mode='border', align_corners=False)

    def locate(self, rows: int, columns: int) -> Tensor:
        """Return where in the images the centers of a grid of patches lie: (B, rows, columns, 2), x before y."""
        return affine_grid(self.theta, [len(self.theta), 1, rows, columns], align_corners=False)

    def measure_patches(self, rows: int, columns: int) -> Tensor:
        """Return the width and height of a patch in the coordinates of the images: (B, 2)."""
        return 2 * torch.stack([self.theta[:, 0, 0].abs() / columns, self.theta[:, 1, 1] / rows], dim=1)


def compute_patch_knn_accuracy(queries: Tensor, keys: Tensor, from_crops: Crops, to_crops: Crops) -> float:
    """Compute how many patches of one crop have their nearest neighbor in another crop at their own place.

    The neighbor is the patch of greatest cosine similarity. It is at the same place if it lies no further away than one
    patch of the other crop. Only patches whose place the other crop shows are counted. Features of constant color, of
    one flat value, or of position alone find few; no labels are needed.

    Args:
        queries: Map (B, C, h, w) of the first crops.
        keys: Map (B, C, k, m) of the others.
        from_crops: The first crops.
        to_crops: The other crops.

    Returns:
        Accuracy between 0 and 1.

    Raises:
        UserError: If no crop shows anything of the other.
    """
    own = from_crops.locate(*queries.shape[-2:]).flatten(1, 2)  # (B, N, 2)
    places = to_crops.locate(*keys.shape[-2:]).flatten(1, 2)  # (B, M, 2)
    patch = to_crops.measure_patches(*keys.shape[-2:])[:, None]  # (B, 1, 2)
    vectors, others = (normalize(x.float().flatten(2).mT, dim=2) for x in (queries, keys))  # (B, N, C), (B, M, C)
    nearest = (vectors @ others.mT).argmax(2).cpu()  # (B, N)
    found = places.gather(1, nearest[..., None].expand(-1, -1, 2))  # (B, N, 2)
    is_right = ((found - own).abs() <= patch).all(2)
    center, half = to_crops.theta[:, None, :, 2], to_crops.theta[:, None, [0, 1], [0, 1]].abs()
    is_shown = ((own - center).abs() <= half).all(2)  # (B, N)
    if not is_shown.any():
        raise UserError('No two crops of an image show the same part: draw larger ones.')
    return float(is_right[is_shown].double().mean())
