"""Measure how fast the same images are read from files, tars and LMDBs."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from shutil import copyfile
from statistics import median
from time import perf_counter
from typing import Any

from tqdm import tqdm

from mae_toolkit.benchmarks.data import one_thread, write_jpegs
from mae_toolkit.datasets import EpochSampler, ImageDataset, ShardDataset, ShardSampler
from mae_toolkit.datasets.image_files import find_images
from mae_toolkit.datasets.shards.writer import ShardSettings, make_shards
from mae_toolkit.errors import UserError
from mae_toolkit.registry import DATASETS

FORMATS = ('folder', 'lmdb', 'wds')
SHARDS = 8  # so many are made of the images


def benchmark_formats(
    dataset: dict[str, Any],
    formats: Sequence[str] = FORMATS,
    rounds: int = 5,
    images: int = 200,
    make_jpegs: tuple[int, int] | None = None,
) -> dict[str, Any]:
    """Time one core on the same images in several formats, in turns, each in the order of its sampler.

    The files are in the memory of the operating system by then, so what is compared is the work of a core.

    Args:
        dataset: Config of an :class:`ImageDataset`.
        formats: ``'folder'``, ``'lmdb'`` and ``'wds'`` (tars).
        rounds: Timed passes of each, of which the medians are given; one more warms up.
        images: Images per pass, at most as many as there are.
        make_jpegs: Width and height of JPEGs that are made of the dataset's images first, and read instead of them.

    Returns:
        ``rates``, images per second and core by format, and the settings.

    Raises:
        UserError: If the config is not that of an ImageDataset.
    """
    with one_thread(), tempfile.TemporaryDirectory() as folder:
        files = Path(folder, 'files')
        files.mkdir()
        source = DATASETS.build({**dataset, 'pipeline': []})
        if not isinstance(source, ImageDataset):
            raise UserError(
                f'Formats are made from the files of an ImageDataset, and the config has a {type(source).__name__}: '
                'choose one that trains on a folder of images.'
            )
        if make_jpegs:
            write_jpegs(source, files, make_jpegs, images)
        else:
            for number in range(min(images, source.count_images())):
                path = source.root / source.names[number]
                copyfile(path, files / f'{number:06d}{path.suffix}')
        common: dict[str, Any] = {key: dataset[key] for key in ('pipeline', 'channels', 'seed') if key in dataset}
        sets = {kind: _make(kind, files, Path(folder), common) for kind in formats}
        times: dict[str, list[float]] = {kind: [] for kind in formats}
        for epoch in tqdm(range(rounds + 1), desc='rounds', unit='round'):
            for kind, (made, sampler) in sets.items():
                sampler.set_epoch(epoch)
                start = perf_counter()
                count = sum(1 for key in sampler if made[key])
                if epoch:
                    times[kind].append(perf_counter() - start)
    rates = {kind: count / median(values) for kind, values in times.items()}
    return {'rates': rates, 'images': count, 'rounds': rounds, 'made': make_jpegs}


def report_formats(result: dict[str, Any]) -> str:
    """Write the result of :func:`benchmark_formats` as text."""
    made = 'JPEGs of {} x {} made of the images'.format(*result['made']) if result['made'] else 'the images as they are'
    lines = [f'{result["images"]} images ({made}), one core, medians of {result["rounds"]} rounds']
    return '\n'.join(lines + [f'{kind:20} {rate:8.0f} images/s' for kind, rate in result['rates'].items()])


def _make(kind: str, files: Path, folder: Path, common: dict[str, Any]) -> tuple[Any, EpochSampler]:
    """Write the images in a format; return the dataset that reads them, and its sampler."""
    if kind == 'folder':
        made = ImageDataset(files, **common)
        return made, EpochSampler(made)
    size = max(1, sum(path.stat().st_size for path in find_images([files])) // SHARDS)
    make_shards(ShardSettings(str(files), kind, size), folder / kind)
    shards = ShardDataset(folder / kind, **common)
    return shards, ShardSampler(shards)
