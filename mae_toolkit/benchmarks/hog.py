"""Measure how fast histograms of oriented gradients are computed, against scikit-image."""

from collections.abc import Callable, Sequence
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from skimage.feature import hog
from tqdm import tqdm

from mae_toolkit.benchmarks.data import one_thread
from mae_toolkit.models.targets import HOGTarget

CELL, BINS = 8, 9
Histograms = Callable[[], np.ndarray]  # computes (B, bins, h, w)
SKIMAGE: dict[str, Any] = dict(
    gradient='central', gaussian_window=None, start='horizontal', eps=1e-5
)  # its convention in our words


def benchmark_hog(images: int = 64, size: int = 224, runs: int = 5) -> dict[str, Any]:
    """Time one core on the same random images with our target and with scikit-image, in turns.

    Scikit-image can express what its convention has in common with MaskFeat's: the same cells, bins and norm, but
    central differences and no Gaussian weights. MaskFeat's own target is timed beside it, ours alone.

    Args:
        images: Images per batch.
        size: Pixels of their sides, a multiple of 16.
        runs: Timed passes of each, of which the medians are given; one more warms up.

    Returns:
        ``cases``, each with ``ours`` and ``skimage`` in milliseconds per image, their ``ratio``, and the greatest
        ``difference`` between the two; and the settings.
    """
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (images, size, size, 3)).astype(np.float32)
    with one_thread():
        cases: dict[str, tuple] = {name: (*case, []) for name, case in _cases(color).items()}
        for i in tqdm(range(runs + 1), desc='rounds', unit='round'):
            for ours, theirs, times in cases.values():
                passed = [None if function is None else _time(function) for function in (ours, theirs)]
                times += [passed] if i else []
        results = {name: _result(times, images) for name, (_, _, times) in cases.items()}
        for name, (ours, theirs, _) in cases.items():
            if theirs is not None:
                results[name]['difference'] = np.abs(ours() - theirs()).max().item()
    return {'cases': results, 'images': images, 'size': size, 'runs': runs}


def report(result: dict[str, Any]) -> str:
    """Write the result of :func:`benchmark_hog` as text."""
    head = '{images} images of {size} x {size} pixels, one core, medians of {runs} rounds, ms per image'.format(
        **result
    )
    lines = [head, f'{"":36}{"ours":>8}{"scikit-image":>14}{"ratio":>8}  greatest difference']
    for name, case in result['cases'].items():
        line = f'{name:36}{case["ours"]:8.2f}'
        if 'skimage' in case:
            line += f'{case["skimage"]:14.2f}{case["ratio"]:8.1f}  {case["difference"]:.0e}'
        lines.append(line)
    return '\n'.join(lines)


def _cases(color: np.ndarray) -> dict[str, tuple[Histograms, Histograms | None]]:
    """Make functions that compute the histograms (B, bins, h, w) of all images: ours, and scikit-image's or None."""
    gray = np.ascontiguousarray(color[..., 0])
    imgs, first = torch.from_numpy(color).permute(0, 3, 1, 2).contiguous(), torch.from_numpy(gray).unsqueeze(1)
    one, each = (HOGTarget(CELL, channels, nbins=BINS, cell=CELL, **SKIMAGE) for channels in (1, 3))
    strongest = HOGTarget(CELL, 3, nbins=BINS, cell=CELL, color='strongest', **SKIMAGE)
    maskfeat = HOGTarget(2 * CELL, 3, nbins=BINS, cell=CELL)
    channels = [np.ascontiguousarray(color[..., c]) for c in range(3)]
    return {
        'one channel': (lambda: one(first).numpy(), lambda: _skimage(gray)),
        'three channels, histograms of each': (
            lambda: each(imgs).numpy(),
            lambda: np.concatenate([_skimage(channel) for channel in channels], 1),
        ),
        'three channels, the strongest': (
            lambda: strongest(imgs).numpy(),
            lambda: _skimage(color, channel_axis=-1),
        ),
        "three channels, MaskFeat's target": (lambda: maskfeat(imgs).numpy(), None),
    }


def _skimage(images: np.ndarray, **options: Any) -> np.ndarray:
    cells = dict(orientations=BINS, pixels_per_cell=(CELL, CELL), cells_per_block=(1, 1), block_norm='L2')
    done = [hog(image, feature_vector=False, **cells, **options)[:, :, 0, 0] for image in images]
    return np.stack(done).transpose(0, 3, 1, 2)


def _time(function: Histograms) -> float:
    start = perf_counter()
    function()
    return perf_counter() - start


def _result(times: Sequence[Sequence[float | None]], images: int) -> dict[str, float]:
    ours, theirs = ([t for t in column if t is not None] for column in zip(*times, strict=True))
    result = {'ours': 1000 * median(ours) / images}
    if theirs:
        result |= {'skimage': 1000 * median(theirs) / images, 'ratio': median(theirs) / median(ours)}
    return result
