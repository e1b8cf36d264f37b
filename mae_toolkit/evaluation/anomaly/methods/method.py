"""The base class of the methods that tell unusual positions of maps from usual ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor


class AnomalyMethod:
    """A method that is fitted on maps of normal images and scores maps of others, position by position.

    A new method is one file with a subclass, and one entry in :data:`~.METHODS`. Arguments of its constructor, all with
    a default, can be set by the user; ``seed`` is that of the detector.

    Attributes:
        reads: ``'features'``, the maps of an encoder; or ``'errors'``, how far a masked autoencoder is off.
        least_images: Fewest normal images that it can be fitted on.
        local: Positions per side over which features are averaged first, unless the user says otherwise.
        needs_alignment: Whether it compares a position with the same one of other images.
    """

    reads: ClassVar[str] = 'features'
    least_images: ClassVar[int] = 1
    local: ClassVar[int] = 1
    needs_alignment: ClassVar[bool] = False

    def __init__(self, seed: int = 0) -> None:
        """Set what is drawn at random; see the subclass for its own arguments."""

    def add(self, maps: Tensor) -> None:
        """Take in maps (B, D, h, w) of normal images."""
        raise NotImplementedError

    def finish(self, show_progress: bool = True) -> None:
        """Compute what scores need, once all normal images were taken in."""
        raise NotImplementedError

    def score(self, maps: Tensor) -> Tensor:
        """Score positions: (B, D, h, w) to (B, h, w), higher for what is unusual."""
        raise NotImplementedError

    def weigh(self, maps: Tensor, scores: Tensor) -> Tensor | None:
        """Return factors (B,) of the greatest score of each map; None if it is taken as it is.

        Args:
            maps: (B, D, h, w).
            scores: What :meth:`score` made of them.
        """
        return None

    def state(self) -> dict[str, Tensor]:
        """Return what was fitted, from which :meth:`restore` makes the method again."""
        raise NotImplementedError

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Set what :meth:`state` has returned."""
        raise NotImplementedError


def to_rows(maps: Tensor) -> Tensor:
    """List the positions of maps: (B, D, h, w) to (B*h*w, D)."""
    return maps.movedim(1, -1).flatten(0, 2)


def to_scores(rows: Tensor, maps: Tensor) -> Tensor:
    """Put one number for each position, (B*h*w,), into the places of maps (B, D, h, w): (B, h, w)."""
    return rows.view(maps.shape[0], *maps.shape[2:])
