"""A detector of anomalies: fitted on normal images, calibrated and given its thresholds by others."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.branch import Branch, PreparedImage, Preparing, prepare_images
from mae_toolkit.evaluation.anomaly.scoring import (
    SCORES,
    Anomaly,
    RawScores,
    calibrate,
    compute_map,
    compute_scores,
    find_boxes,
)
from mae_toolkit.evaluation.anomaly.splits import NormalSplit
from mae_toolkit.evaluation.anomaly.tiles import Tiling
from mae_toolkit.printing import format_count


@dataclass
class Detector:
    """One or more methods whose standardized maps are averaged, and the thresholds of the result.

    Attributes:
        branches: The methods, each with the model that feeds it.
        tiling: How large images are cut; None if whole images are resized.
        smooth: Standard deviation of the Gaussian that smooths the map, in its pixels.
        decide_by: The score that says whether an image is anomalous: ``'max'`` or ``'top'``.
        percentile: Percentile of held-out normal images that is the threshold.
        batch_size: Images, or tiles, that a model sees at once.
        workers: Processes that read images; None chooses.
        thresholds: Of the scores ``'max'`` and ``'top'`` and of ``'pixel'``; empty if no image could be held out.
        skipped: Reasons by name, of the images that the last call could not read.
    """

    branches: list[Branch]
    tiling: Tiling | None = None
    smooth: float = 4.0
    decide_by: str = 'max'
    percentile: float = 95.0
    batch_size: int = 16
    workers: int | None = None
    thresholds: Mapping[str, float] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Refuse arguments that cannot work."""
        if self.decide_by not in SCORES:
            raise UserError(f'decide_by={self.decide_by!r} must be one of {", ".join(SCORES)}.')
        if not 0 < self.percentile <= 100:
            raise UserError(f'percentile={self.percentile} must be above 0 and at most 100.')
        if not 0 <= self.smooth < float('inf'):
            raise UserError(f'smooth={self.smooth} must be 0 or more pixels.')
        if len(self.branches) > 1 and any(branch.settings.get('reweight') for branch in self.branches):
            raise UserError('reweight is for patchcore alone: maps that are fused have no one nearest patch.')

    @property
    def least_images(self) -> int:
        """Return the fewest normal images that all methods can be fitted on."""
        return max(branch.method.least_images for branch in self.branches)

    @torch.no_grad()
    def fit(self, split: NormalSplit, show_progress: bool = True) -> int:
        """Fit the methods on normal images, and set calibration and thresholds by held-out ones.

        Args:
            split: The images. Where none are held out, each image is scored by methods that are fitted on the others,
                if there are enough.
            show_progress: Show bars where it takes more than a second.

        Returns:
            How many images the thresholds come from; 0 if there are none.

        Raises:
            UserError: If there are fewer images than needed, or one has other channels than the encoder takes.
        """
        self.skipped = {}
        if split.held_out:
            fitted = self._take_in(split.fitted, show_progress)
            self._check_enough(fitted)
            self._finish(show_progress)
            held_out = list(self._measure(split.held_out, 'scoring held-out images' if show_progress else None))
            if not held_out:
                raise UserError(
                    f'None of {format_count(len(split.held_out), "held-out image")} can be read: {split.held_out[0]} '
                    f'({self.skipped[str(split.held_out[0])]}).'
                )
        else:
            held_out = self._leave_one_out(split.fitted, show_progress)
        if not held_out and len(self.branches) > 1:
            raise UserError(
                f'{format_count(len(split.fitted), "normal image")} cannot be used to fuse '
                f'{" and ".join(branch.name for branch in self.branches)}: to calibrate them, some must be held out. '
                'Give more, or choose one method.'
            )
        if held_out:
            calibrate(self.branches, held_out)
            self.thresholds = self._find_thresholds(held_out)
        return len(held_out)

    def score(
        self, items: Sequence[Any], names: Sequence[str], show_progress: bool = True, skip_misfits: bool = False
    ) -> Iterator[Anomaly]:
        """Score images in batches; those that cannot be read are in :attr:`skipped`.

        Args:
            items: Paths, arrays or pictures.
            names: What they are called.
            show_progress: Show a bar where it takes more than a second.
            skip_misfits: Also skip images of other channels or smaller than a tile, in place of refusing them.

        Yields:
            What was found, in the order of the images.
        """
        self.skipped = {}
        progress = 'scoring images' if show_progress else None
        for raw in self._measure(items, progress, names, skip_misfits):
            yield self.judge(raw, names[raw.index])

    def judge(self, raw: RawScores, name: str) -> Anomaly:
        """Make map, scores and boxes of an image from the scores of its patches."""
        scores = compute_scores(self.branches, raw)
        pixels = compute_map(self.branches, raw, self.smooth)
        threshold = self.thresholds.get(self.decide_by)
        decision = None if threshold is None else scores[self.decide_by] > threshold
        boxes = find_boxes(pixels, raw.size, self.thresholds.get('pixel'))
        return Anomaly(raw.index, name, raw.size, pixels, scores, decision, boxes)

    def _find_thresholds(self, held_out: Sequence[RawScores]) -> dict[str, float]:
        """Take the percentiles of the scores of held-out images, and of the greatest value of their maps.

        A percentile between two images is the higher one. For pixels it is that of the maps' maxima: of all pixels, a
        share would be found in each normal image.
        """
        found: dict[str, list[float]] = {name: [] for name in (*SCORES, 'pixel')}
        for raw in held_out:
            for name, value in compute_scores(self.branches, raw).items():
                found[name].append(value)
            found['pixel'].append(float(compute_map(self.branches, raw, self.smooth).max()))
        return {name: float(np.percentile(values, self.percentile, method='higher')) for name, values in found.items()}

    def _take_in(self, paths: Sequence[Path], show_progress: bool) -> int:
        """Give the maps of images to the methods; return how many could be read."""
        count = 0
        for _, maps in self._encode(paths, 'encoding normal images' if show_progress else None):
            for branch, x in zip(self.branches, maps, strict=True):
                branch.method.add(x)
            count += 1
        return count

    def _leave_one_out(self, paths: Sequence[Path], show_progress: bool) -> list[RawScores]:
        """Fit the methods on few images, and score each by methods that were fitted on the others."""
        encoded = list(self._encode(paths, 'encoding normal images' if show_progress else None))
        self._check_enough(len(encoded))
        held_out = []
        for left_out in range(len(encoded) if len(encoded) > self.least_images else 0):
            self._fit_on([maps for number, (_, maps) in enumerate(encoded) if number != left_out], False)
            held_out.append(self._score_maps(*encoded[left_out]))
        self._fit_on([maps for _, maps in encoded], show_progress)
        return held_out

    def _fit_on(self, maps: Sequence[Sequence[Tensor]], show_progress: bool) -> None:
        for branch in self.branches:
            branch.renew()
        for of_image in maps:
            for branch, x in zip(self.branches, of_image, strict=True):
                branch.method.add(x)
        self._finish(show_progress)

    def _finish(self, show_progress: bool) -> None:
        for branch in self.branches:
            branch.method.finish(show_progress)

    def _check_enough(self, count: int) -> None:
        if count < self.least_images:
            failed = f' ({len(self.skipped)} could not be read)' if self.skipped else ''
            raise UserError(
                f'{format_count(count, "normal image")}{failed} to fit on, and '
                f'{" and ".join(branch.name for branch in self.branches)} needs at least {self.least_images}: add some.'
            )

    def _measure(
        self,
        items: Sequence[Any],
        progress: str | None,
        names: Sequence[str] | None = None,
        skip_misfits: bool = False,
    ) -> Iterator[RawScores]:
        """Score the patches of images."""
        for image, maps in self._encode(items, progress, names, skip_misfits):
            yield self._score_maps(image, maps)

    def _encode(
        self,
        items: Sequence[Any],
        progress: str | None,
        names: Sequence[str] | None = None,
        skip_misfits: bool = False,
    ) -> Iterator[tuple[PreparedImage, list[Tensor]]]:
        """Yield images that can be read, each with the maps (T, D, h, w) of each branch; note the others."""
        preparing = Preparing([branch.transform for branch in self.branches], self.tiling)
        at_once = 1 if self.tiling else self.batch_size  # an image may have many tiles
        batches = prepare_images(items, preparing, at_once, self.workers, progress, skip_misfits)
        for images, failed in batches:
            self.skipped |= {str(items[i]) if names is None else names[i]: reason for i, reason in failed.items()}
            if not images:
                continue
            tiles = [len(image.places) for image in images]
            maps = [
                branch.read(torch.cat([image.tensors[number] for image in images]), self.batch_size).split(tiles)
                for number, branch in enumerate(self.branches)
            ]
            for number, image in enumerate(images):
                yield image, [of_branch[number] for of_branch in maps]

    def _score_maps(self, image: PreparedImage, maps: Sequence[Tensor]) -> RawScores:
        grids = [branch.method.score(x) for branch, x in zip(self.branches, maps, strict=True)]
        weights = [branch.method.weigh(x, grid) for branch, x, grid in zip(self.branches, maps, grids, strict=True)]
        pixels = (self.tiling.side,) * 2 if self.tiling else image.tensors[0].shape[-2:]
        return RawScores(image.index, image.size, image.places, grids, weights, (pixels[0], pixels[1]))
