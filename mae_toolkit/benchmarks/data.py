"""Measure how fast images are read, against the plain pipeline of Pillow and torchvision."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision import transforms
from tqdm import tqdm

from mae_toolkit.datasets import ImageDataset, RandomResizedCrop
from mae_toolkit.errors import UserError
from mae_toolkit.registry import DATASETS


def benchmark_data(
    dataset: dict[str, Any], rounds: int = 5, images: int = 200, make_jpegs: tuple[int, int] | None = None
) -> dict[str, Any]:
    """Time one core on the same files with our pipeline and with the plain one, in turns.

    The plain one is what MAE's own script does: ``PIL.Image.open().convert('RGB')``, then torchvision's
    RandomResizedCrop with the same size, scale and interpolation, RandomHorizontalFlip, ToTensor and Normalize.

    Args:
        dataset: Config of an :class:`ImageDataset` whose pipeline begins with RandomResizedCrop.
        rounds: Timed passes of each, of which the medians are given; one more warms up.
        images: Images per pass.
        make_jpegs: Width and height of JPEGs that are made of the dataset's images first, and read instead of them.

    Returns:
        ``ours`` and ``plain`` in images per second and core, their ``ratio``, and the settings.

    Raises:
        UserError: If the pipeline has no RandomResizedCrop.
    """
    cfg = dict(dataset)
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        if make_jpegs:
            write_jpegs(DATASETS.build({**cfg, 'pipeline': []}), Path(folder), make_jpegs, images)
            cfg |= {'data_root': folder, 'ann_file': None, 'layout': 'folder', 'split': None, 'hold_out': None}
        ours = DATASETS.build({**cfg, 'repeat': 1})
        plain = _plain_pipeline(ours)
        count = min(images, len(ours))
        passes = {
            'ours': lambda epoch: [ours[epoch, i % len(ours)]['img'] for i in range(count)],
            'plain': lambda epoch: [plain(ours.root / ours.names[i % len(ours)]) for i in range(count)],
        }
        times: dict[str, list[float]] = {name: [] for name in passes}
        for epoch in tqdm(range(rounds + 1), desc='rounds', unit='round'):
            for name, run in passes.items():
                start = perf_counter()
                run(epoch)
                if epoch:
                    times[name].append(perf_counter() - start)
    rates = {name: count / median(values) for name, values in times.items()}
    return {**rates, 'ratio': rates['ours'] / rates['plain'], 'images': count, 'rounds': rounds, 'made': make_jpegs}


def report(result: dict[str, Any]) -> str:
    """Write the result of :func:`benchmark_data` as text."""
    made = 'JPEGs of {} x {} made of the images'.format(*result['made']) if result['made'] else 'the images as they are'
    return (
        f'{result["images"]} files ({made}), one core, medians of {result["rounds"]} rounds\n'
        f'ours                 {result["ours"]:8.0f} images/s\n'
        f'PIL + torchvision    {result["plain"]:8.0f} images/s\n'
        f'ratio                {result["ratio"]:8.2f}'
    )


@contextmanager
def one_thread() -> Iterator[None]:
    """Let torch compute on one thread within a ``with`` block."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def _plain_pipeline(dataset: ImageDataset) -> Callable[[Path], Tensor]:
    """Make the plain pipeline with the size, the scale and the interpolation of a dataset's own."""
    crop = next((t for t in dataset.transforms if isinstance(t, RandomResizedCrop)), None)
    if crop is None:
        raise UserError('The benchmark compares pipelines that begin with RandomResizedCrop; this config has none.')
    mode = transforms.InterpolationMode(crop.interpolation)
    pipeline = transforms.Compose(
        [
            transforms.RandomResizedCrop(crop.size, crop.scale, crop.ratio, interpolation=mode),
            transforms.RandomHorizontalFlip(),
            transforms.ToTensor(),
            transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)),
        ]
    )
    return lambda path: pipeline(Image.open(path).convert('RGB'))


def write_jpegs(dataset: ImageDataset, folder: Path, size: tuple[int, int], count: int) -> None:
    """Write mosaics of the dataset's images, so that small images do not become smooth large ones."""
    for i in range(min(count, len(dataset))):
        canvas = np.zeros((size[1], size[0], 3), np.uint8)
        top = 0
        k = i
        while top < size[1]:
            left, height = 0, size[1]
            while left < size[0]:
                image = dataset.read_at(k % dataset.count_images())[: size[1] - top, : size[0] - left]
                canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
                left, height, k = left + image.shape[1], min(height, image.shape[0]), k + 1
            top += height
        Image.fromarray(canvas).save(folder / f'{i:05d}.jpg', quality=90)
