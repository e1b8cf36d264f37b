"""Which normal images a detector is fitted on, and which are held out to set its thresholds."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.layout import NormalImages
from mae_toolkit.printing import format_count

FEW = 10  # normal images of which none are held out: each is scored by what is fitted on the others


@dataclass(frozen=True)
class NormalSplit:
    """Normal images, split.

    Attributes:
        fitted: Files that the methods are fitted on.
        held_out: Files that set calibration and thresholds; empty if each fitted image is to be left out once.
    """

    fitted: tuple[Path, ...]
    held_out: tuple[Path, ...] = ()


def split_normal(
    normal: Sequence[NormalImages],
    shots: int | None = None,
    held_out: float = 0.2,
    held_out_images: Sequence[Path] = (),
    seed: int = 0,
) -> NormalSplit:
    """Split normal images, category by category.

    Args:
        normal: The images of each category.
        shots: Images of each category that are used at all, drawn by the seed; all if None.
        held_out: Share that is held out, between 0 and 1. Of fewer than ten images none are.
        held_out_images: Other normal images that are held out, in place of a share.
        seed: Seed of what is drawn.

    Raises:
        UserError: If a category has fewer images than shots, an image is named twice, or fitted on and held out, or a
            number is out of its range.
    """
    if not 0 < held_out < 1:
        raise UserError(f'held_out={held_out} must be between 0 and 1: it is a share of the normal images.')
    if shots is not None and shots < 1:
        raise UserError(f'shots={shots} must be 1 or more.')
    rng = np.random.default_rng(seed)
    chosen = [_draw(images, shots, rng) for images in normal]
    everything = tuple(path for paths in chosen for path in paths)
    _refuse_repeated(everything)
    if held_out_images:
        twice = {path.resolve() for path in everything} & {path.resolve() for path in held_out_images}
        if twice:
            raise UserError(
                f'{format_count(len(twice), "image")}, such as {min(twice).name}, are to be fitted on and to be held '
                'out: thresholds come from images that were not seen.'
            )
        return NormalSplit(everything, tuple(held_out_images))
    if len(everything) < FEW:
        return NormalSplit(everything)
    kept, left = [], []
    for paths in chosen:
        order = rng.permutation(len(paths))
        count = max(1, round(held_out * len(paths))) if len(paths) > 1 else 0
        left += [paths[i] for i in sorted(order[:count])]
        kept += [paths[i] for i in sorted(order[count:])]
    return NormalSplit(tuple(kept), tuple(left))


def _refuse_repeated(paths: Sequence[Path]) -> None:
    """Refuse images that are there twice: one could be fitted on, and set the threshold as if it had not been seen."""
    files = Counter(path.resolve() for path in paths)
    twice = [path for path, count in files.items() if count > 1]
    if twice:
        raise UserError(
            f'{format_count(len(twice), "normal image")}, such as {twice[0].name}, '
            f'{"is" if len(twice) == 1 else "are"} named more than once: name each folder once, and '
            'none that is in another.'
        )


def _draw(images: NormalImages, shots: int | None, rng: np.random.Generator) -> tuple[Path, ...]:
    if shots is None:
        return images.paths
    if shots > len(images.paths):
        raise UserError(
            f'{images.category} has {format_count(len(images.paths), "normal image")}, and shots={shots} are asked for.'
        )
    return tuple(images.paths[i] for i in sorted(rng.permutation(len(images.paths))[:shots]))
