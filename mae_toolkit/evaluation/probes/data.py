"""What a probe reads, and what it gives back."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.datasets.labels.splits import Shares, split_images
from mae_toolkit.errors import UserError

CHOOSE = 0.2  # share of the training images on which the settings of a probe are chosen


@dataclass(frozen=True)
class Part:
    """Features of some images, and what is known of them.

    Attributes:
        features: Vectors (N, C), or maps (N, C, h, w).
        labels: Class indices (N,), or masks (N, H, W) of class indices in which -1 does not count.
    """

    features: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.features)

    def select(self, rows: Tensor) -> Part:
        """Return the part of some images, by their rows."""
        return Part(self.features[rows], self.labels[rows])


@dataclass(frozen=True)
class ProbeData:
    """Features of one level and pooling, in three parts.

    Attributes:
        train: What a probe learns from.
        val: By whose scores levels, poolings and probes are chosen.
        test: What is reported, and chooses nothing.
        classes: Number of classes.
        held_out: Rows of ``train`` (bool) on which a probe chooses its settings, such as k, before it learns from all
            of them.
        seed: Seed of whatever is random.
    """

    train: Part
    val: Part
    test: Part
    classes: int
    held_out: Tensor
    seed: int = 0

    @property
    def fit(self) -> Part:
        """Return the training images from which a probe learns while it chooses its settings."""
        return self.train.select(~self.held_out)

    @property
    def choose(self) -> Part:
        """Return the training images on which a probe chooses its settings."""
        return self.train.select(self.held_out)


Scores = dict[str, float]


@dataclass(frozen=True)
class ProbeResult:
    """What a probe found.

    Attributes:
        val: Scores on the validation images; the first is the one by which the best is chosen.
        test: Scores on the test images.
        settings: What the probe chose on a part of the training images, and how.
    """

    val: Scores
    test: Scores
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Probe:
    """An entry of the table of probes.

    Attributes:
        takes: Vectors of images, or maps.
        run: The probe.
        columns: Titles of the scores that tables show, by their names; the first is the one that is compared.
        is_supervised: Whether it learns from labels, so that its scores and those of others say which reading of an
            encoder is best.
    """

    takes: Literal['vectors', 'maps']
    run: Callable[[ProbeData], ProbeResult]
    columns: Mapping[str, str]
    is_supervised: bool = True

    @property
    def metric(self) -> str:
        """Return the name of the score by which levels and poolings are compared."""
        return next(iter(self.columns))


def hold_out(strata: list[Any], seed: int) -> Tensor:
    """Choose training images on which the settings of probes are chosen: a fifth, in equal shares of each stratum.

    Args:
        strata: Class of each training image.
        seed: Seed of the choice.

    Returns:
        (N,) bool.

    Raises:
        UserError: If there are fewer than two images.
    """
    chosen = split_images(strata, Shares(CHOOSE, 0.0), seed)['val']
    held_out = torch.zeros(len(strata), dtype=torch.bool)
    held_out[chosen] = True
    return held_out


def compute_accuracy(predicted: np.ndarray | Tensor, labels: np.ndarray | Tensor) -> float:
    """Compute the share of predictions (N,) that are the labels (N,)."""
    return float((np.asarray(predicted) == np.asarray(labels)).mean())


def check_classes(labels: Tensor, what: str) -> None:
    """Refuse to learn from images of a single class.

    Args:
        labels: Class indices (N,).
        what: What would learn, with which the sentence begins.

    Raises:
        UserError: If there are fewer than two classes.
    """
    found = len(labels.unique())
    if found < 2:
        raise UserError(
            f'{what} needs two classes or more, and there is {found} among the {len(labels)} labels that it learns '
            'from while settings are chosen: give more of each class.'
        )
