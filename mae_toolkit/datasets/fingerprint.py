"""The fingerprint of a folder of images: what is in it, before anything is trained on it."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from tqdm import tqdm

from mae_toolkit.cores import count_cores
from mae_toolkit.datasets.image_io import BrokenImageError
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS, ImageLimits
from mae_toolkit.datasets.image_measures import ImageMeasures, measure_image
from mae_toolkit.datasets.near_duplicates import group_near_duplicates

MOST_IMAGES = 50_000  # that are opened; of more, so many at equal distances
FEW = 64  # images that are not worth further processes
MOST_PROCESSES = 16
CHUNK = 16  # images that a process measures at a time
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
CONSTANT = 0.02  # of the spread of all pixels: an image with less shows nothing
MOST_NAMES = 100  # of broken, constant or duplicate images that are listed


@dataclass(frozen=True)
class Fingerprint:
    """What is in a folder of images.

    Attributes:
        images: Files with the suffix of an image.
        opened: Files that were opened; all of them, up to ``MOST_IMAGES``.
        readable: Opened files that could be decoded.
        heights: Quantiles of the heights in pixels, by ``QUANTILES``.
        widths: Quantiles of the widths.
        short_sides: Quantiles of the shorter sides.
        aspect_ratios: Quantiles of width / height.
        channels: Number of images by number of channels, without opacity.
        with_alpha: Images that have an opacity beside their channels, which is dropped.
        dtypes: Number of images by type of numbers.
        mean: Mean of each channel over all pixels, each image counting the same, in the units of the files; for the
            most frequent number of channels.
        std: Standard deviation of each channel.
        near_duplicates: Images that look like an earlier one.
        duplicate_groups: Names of the images of the largest groups that look the same.
        constant: Images that show next to nothing, see ``CONSTANT``.
        constant_names: The first of them.
        broken: Images that cannot be read.
        broken_reasons: The first of them, with the reason.
        seconds: How long it took.
    """

    images: int
    opened: int
    readable: int
    heights: list[float]
    widths: list[float]
    short_sides: list[float]
    aspect_ratios: list[float]
    channels: dict[int, int]
    with_alpha: int
    dtypes: dict[str, int]
    mean: list[float]
    std: list[float]
    near_duplicates: int
    duplicate_groups: list[list[str]]
    constant: int
    constant_names: list[str]
    broken: int
    broken_reasons: dict[str, str]
    seconds: float

    def to_dict(self) -> dict[str, Any]:
        """Return what ``fingerprint.json`` holds."""
        return asdict(self) | {'quantiles': list(QUANTILES), 'hash': self.hash}

    @property
    def hash(self) -> str:
        """Return 16 letters that follow from what was measured, and not from where or how fast."""
        content = {key: value for key, value in asdict(self).items() if key != 'seconds'}
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode('utf-8', 'surrogateescape')).hexdigest()[:16]


def take_fingerprint(
    root: str | Path, names: Sequence[str], limits: ImageLimits = DEFAULT_LIMITS, processes: int | None = None
) -> Fingerprint:
    """Measure the images of a folder, and show a progress bar where that takes a while.

    Example::

        fingerprint = take_fingerprint('photos', list_images('photos'))

    Args:
        root: The folder.
        names: Paths of the images relative to it.
        limits: Largest image that is decoded; a larger one counts as broken.
        processes: Processes that decode; as many as there are cores if None.
    """
    begin = time.perf_counter()
    step = max(1, -(-len(names) // MOST_IMAGES))
    opened = list(names[::step])
    found: dict[str, ImageMeasures] = {}
    broken: dict[str, str] = {}
    paths = [Path(root) / name for name in opened]
    bar = tqdm(measure_images(paths, limits, processes), 'looking at images', len(opened), unit='image', delay=1)
    for name, measured in zip(opened, bar, strict=True):
        if isinstance(measured, BrokenImageError):
            broken[name] = measured.reason
        else:
            found[name] = measured
    return _summarize(len(names), found, broken, time.perf_counter() - begin)


def measure_images(
    paths: Sequence[Path], limits: ImageLimits, processes: int | None
) -> Iterator[ImageMeasures | BrokenImageError]:
    """Measure images in the given order, by several processes if there are many.

    Args:
        paths: The images.
        limits: Largest image that is decoded.
        processes: Processes that decode; as many as there are cores if None.

    Yields:
        Of each image what was measured, or why it cannot be read.
    """
    count = min(processes or count_cores(), MOST_PROCESSES, -(-len(paths) // CHUNK))
    work = partial(measure_image, limits=limits)
    if len(paths) <= FEW or count == 1:
        yield from map(work, paths)
        return
    method = 'fork' if 'fork' in multiprocessing.get_all_start_methods() else None
    context = multiprocessing.get_context(method)
    threads = cv2.getNumThreads()
    cv2.setNumThreads(1)  # here: a forked process would wait forever for the threads of this one to end
    try:
        with ProcessPoolExecutor(count, context) as pool:
            yield from pool.map(work, paths, chunksize=CHUNK)
    finally:
        cv2.setNumThreads(threads)


def _summarize(total: int, found: dict[str, ImageMeasures], broken: dict[str, str], seconds: float) -> Fingerprint:
    names, measures = list(found), list(found.values())
    sizes = np.array([m.size for m in measures], float).reshape(-1, 2)
    channels = Counter(m.channels for m in measures)
    mean, std = _find_mean_and_std(measures, channels)
    constant = [name for name, is_one in zip(names, find_constant(measures), strict=True) if is_one]
    groups = _find_duplicates(names, measures, set(constant))
    return Fingerprint(
        images=total,
        opened=len(found) + len(broken),
        readable=len(found),
        heights=_quantiles(sizes[:, 0]),
        widths=_quantiles(sizes[:, 1]),
        short_sides=_quantiles(sizes.min(axis=1)),
        aspect_ratios=_quantiles(sizes[:, 1] / sizes[:, 0]),
        channels=dict(channels.most_common()),
        with_alpha=sum(m.has_alpha for m in measures),
        dtypes=dict(Counter(m.dtype for m in measures).most_common()),
        mean=mean,
        std=std,
        near_duplicates=sum(len(group) - 1 for group in groups),
        duplicate_groups=[group[:MOST_NAMES] for group in sorted(groups, key=len, reverse=True)[:MOST_NAMES]],
        constant=len(constant),
        constant_names=constant[:MOST_NAMES],
        broken=len(broken),
        broken_reasons=dict(list(broken.items())[:MOST_NAMES]),
        seconds=round(seconds, 2),
    )


def find_constant(measures: list[ImageMeasures]) -> list[bool]:
    """Return of each image whether it has one color, compared with how the others vary."""
    _, std = _find_mean_and_std(measures, Counter(m.channels for m in measures))
    overall = float(np.mean(std)) if std else 0.0
    return [m.spread < CONSTANT * overall for m in measures]


def _find_mean_and_std(measures: list[ImageMeasures], channels: Counter[int]) -> tuple[list[float], list[float]]:
    """Compute mean and deviation per channel of the images with the most frequent number of channels."""
    if not measures:
        return [], []
    most = channels.most_common(1)[0][0]
    chosen = [m for m in measures if m.channels == most]
    mean = np.mean([m.sums[:most] for m in chosen], axis=0)
    square = np.mean([m.squares[:most] for m in chosen], axis=0)
    std = np.sqrt(np.maximum(square - mean**2, 0))
    return [_round(value) for value in mean], [_round(value) for value in std]


def _find_duplicates(names: list[str], measures: list[ImageMeasures], constant: set[str]) -> list[list[str]]:
    """Return groups of names of images that look the same; constant images all do, and are left out."""
    chosen = [i for i, name in enumerate(names) if name not in constant]
    if len(chosen) < 2:
        return []
    hashes = np.stack([measures[i].hash for i in chosen])
    thumbnails = np.stack([measures[i].thumbnail for i in chosen])
    return [[names[chosen[i]] for i in group] for group in group_near_duplicates(hashes, thumbnails)]


def _quantiles(values: np.ndarray) -> list[float]:
    return [_round(value) for value in np.quantile(values, QUANTILES)] if len(values) else []


def _round(value: float) -> float:
    """Round to six digits, as images are not measured more exactly."""
    return float(f'{value:.6g}')
