"""Errors and patterns of all images of a set."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.evaluation.reconstruction_bias.errors import CellErrors, measure_errors
from mae_toolkit.evaluation.reconstruction_bias.patterns import CellPatterns, describe_cells
from mae_toolkit.models.masked_autoencoder import MaskedAutoencoder
from mae_toolkit.randomness import seeded_torch


@dataclass(frozen=True)
class MeasuredSet:
    """Errors and patterns of the N images of a set, each with L cells; errors are sums over several masks.

    Attributes:
        names: What the images are called.
        classes: Class of each image; None if there are no labels.
        grid: Rows and columns of cells.
        hidden: (N, L), how often each cell was hidden.
        model: (N, L), sum of the squared errors of the model.
        baseline: (N, L), sum of those of the interpolation.
        spectrum: (2, N, K), sums of both by band; None if the target is no picture.
        channels: (2, N, C), likewise by channel.
        edges: (N, L), see :class:`~mae_toolkit.evaluation.reconstruction_bias.patterns.CellPatterns`.
        texture: (N, L).
        color: (N, L), or None.
        intensity: (N, L).
    """

    names: Sequence[str]
    classes: Sequence[str] | None
    grid: tuple[int, int]
    hidden: np.ndarray
    model: np.ndarray
    baseline: np.ndarray
    spectrum: np.ndarray | None
    channels: np.ndarray | None
    edges: np.ndarray
    texture: np.ndarray
    color: np.ndarray | None
    intensity: np.ndarray

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    @property
    def relative_errors(self) -> np.ndarray:
        """Return the error of the model over that of the interpolation, of each image (N,)."""
        return self.model.sum(1) / np.maximum(self.baseline.sum(1), 1e-12)

    @property
    def mean_errors(self) -> np.ndarray:
        """Return the mean squared error of the model in the hidden cells of each image (N,)."""
        return self.model.sum(1) / np.maximum(self.hidden.sum(1), 1)


@dataclass
class SetMeasurer:
    """Collect the errors and patterns of images, batch by batch.

    Args:
        model: The model, in evaluation mode.
        masks: Masks per image.
        seed: Seed of the masks, which follow from it and from the number of the image.
        has_colors: Whether the images have red, green and blue.
        largest_value: Value of the files that is white, such as 255.
    """

    model: MaskedAutoencoder
    masks: int = 4
    seed: int = 0
    has_colors: bool = True
    largest_value: float = 255.0
    _found: list[tuple[list[CellErrors], CellPatterns]] = field(default_factory=list, init=False)
    _grid: tuple[int, int] = field(default=(0, 0), init=False)

    def add(self, imgs: Tensor, numbers: Sequence[int]) -> None:
        """Measure a batch.

        Args:
            imgs: (B, C, H, W), normalized, on the device of the model; what the unit does not divide is cut off.
            numbers: Number of each image in its set.
        """
        unit = self.model.masking.unit
        height, width = (size // unit * unit for size in imgs.shape[-2:])
        imgs = imgs[..., :height, :width]
        self._grid = height // unit, width // unit
        colors = None
        if self.has_colors:
            about = self.model.data_preprocessor
            colors = (about.denormalize(imgs) / self.largest_value).clamp(0, 1)
        errors = [measure_errors(self.model, imgs, mask) for mask in self._draw_masks(imgs, numbers)]
        self._found.append((errors, describe_cells(imgs, unit, colors)))

    def finish(self, names: Sequence[str], classes: Sequence[str] | None) -> MeasuredSet:
        """Put all batches together.

        Args:
            names: Name of each image, in the order in which they were added.
            classes: Class of each; None if there are no labels.
        """
        errors, patterns = [one for one, _ in self._found], [one for _, one in self._found]
        return MeasuredSet(
            names=names,
            classes=classes,
            grid=self._grid,
            hidden=_join_sums([[one.hidden for one in batch] for batch in errors]),
            model=_join_sums([[one.model for one in batch] for batch in errors]),
            baseline=_join_sums([[one.baseline for one in batch] for batch in errors]),
            spectrum=_join_parts([[one.spectrum for one in batch] for batch in errors]),
            channels=_join_parts([[one.channels for one in batch] for batch in errors]),
            edges=_join([one.edges for one in patterns]),
            texture=_join([one.texture for one in patterns]),
            color=_join([one.color for one in patterns]) if self.has_colors else None,
            intensity=_join([one.intensity for one in patterns]),
        )

    @torch.no_grad()
    def _draw_masks(self, imgs: Tensor, numbers: Sequence[int]) -> Iterable[Tensor]:
        """Draw several masks (B, 1, h, w) per image, each by a seed of its own."""
        for round_number in range(self.masks):
            drawn = []
            for row, number in enumerate(numbers):
                with seeded_torch(self.seed + number * self.masks + round_number):
                    drawn.append(self.model.draw_cells(imgs[row : row + 1], predict_all=True).mask)
            yield torch.cat(drawn)


def _join(parts: Sequence[Tensor | None]) -> np.ndarray:
    """Join batches along the images."""
    return torch.cat([part for part in parts if part is not None]).cpu().numpy()


def _join_sums(parts: Sequence[Sequence[Tensor]]) -> np.ndarray:
    """Sum (B, L) over the masks, and join the batches along the images."""
    return torch.cat([torch.stack(list(batch)).double().sum(0) for batch in parts]).cpu().numpy()


def _join_parts(parts: Sequence[Sequence[Tensor | None]]) -> np.ndarray | None:
    """Sum (2, B, K) over the masks, and join the batches along the images; None if there are none."""
    known = [[one.double() for one in batch if one is not None] for batch in parts]
    return torch.cat([torch.stack(batch).sum(0) for batch in known], 1).cpu().numpy() if known[0] else None
