"""Write a folder of images as shards, with their indexes and ``_info.json``: again and again to the same bytes."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import simplejpeg
from tqdm import tqdm

from mae_toolkit.cores import count_cores
from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.image_io import BrokenImageError, decode_image, open_image
from mae_toolkit.datasets.labeled_dataset import get_class_folder
from mae_toolkit.datasets.shards.index import SUFFIX, ShardIndex, stamp_file, write_index
from mae_toolkit.datasets.shards.listing import INFO
from mae_toolkit.datasets.shards.lmdb_shard import index_lmdb, write_lmdb
from mae_toolkit.datasets.shards.tar_shard import index_tar
from mae_toolkit.datasets.transforms import Resize
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write, remove_partial
from mae_toolkit.printing import printable

PROGRESS = '_make_shards.json'
TOGETHER = 256  # images that are read side by side
MOST_NAMES = 100  # of skipped images that are kept
Member = tuple[str, bytes]


@dataclass(frozen=True)
class ShardSettings:
    """What shards are made of a folder, and how.

    Attributes:
        folder: The folder of images.
        format: ``'wds'`` for tars, or ``'lmdb'``.
        shard_size: Bytes of images after which a shard is full.
        split: Name of the split, with which the names of the shards begin.
        labels: Write the index of the folder directly below ``folder``, in which an image lies, as ``.cls``.
        short_side: Pixels to which the shorter side of a larger image of 8 bits is reduced, as JPEG; None to copy all.
        quality: Quality of these JPEGs, 1 to 100.
        seed: Seed of the order; None for that of the names.
    """

    folder: str
    format: str = 'wds'
    shard_size: int = 512_000_000
    split: str = 'train'
    labels: bool = False
    short_side: int | None = None
    quality: int = 95
    seed: int | None = 0


@dataclass
class Progress:
    """What is written already.

    Attributes:
        settings: The settings, and a hash of the names of the images.
        lengths: Number of images of each shard, by its name.
        done: Number of images of the folder that are in shards, or were skipped.
        skipped: Number of images that could not be read.
        reasons: Reasons of the first of them, by name.
    """

    settings: dict[str, Any]
    lengths: dict[str, int] = field(default_factory=dict)
    done: int = 0
    skipped: int = 0
    reasons: dict[str, str] = field(default_factory=dict)


class ReadImage(NamedTuple):
    """An image of the folder: its name, and what a shard holds of it; ``members`` is empty if it cannot be read."""

    name: str
    members: list[Member]
    reason: str


def make_shards(settings: ShardSettings, out: str | Path) -> Progress:
    """Write shards, or go on where a call was ended.

    Example::

        make_shards(ShardSettings('data/imagenet/train', labels=True), 'data/imagenet_shards')

    Args:
        settings: What is written.
        out: Folder of the shards, which is new, empty, or that of a call with the same settings.

    Returns:
        What was written, and what was skipped.

    Raises:
        UserError: If the folder has no images, or ``out`` holds something else.
    """
    names = list_images(settings.folder)
    if settings.seed is not None:
        names = [names[i] for i in np.random.default_rng(settings.seed).permutation(len(names))]
    classes = sorted({get_class_folder(name, None) for name in names}) if settings.labels else []
    out = Path(out)
    progress = _begin(out, settings, names)
    keys = _make_keys(names)
    read = partial(_read_image, settings, {name: number for number, name in enumerate(classes)})
    with tqdm(total=len(names), initial=progress.done, desc='writing shards', unit='image', delay=1) as bar:
        for images in _fill_shards(read, names, keys, progress.done, settings.shard_size):
            _write_shard(out, settings, images, progress)
            atomic_write(out / PROGRESS, json.dumps(vars(progress), indent=1))
            bar.update(len(images))
    about: dict[str, Any] = {'name': settings.split, 'filenames': list(progress.lengths)}
    about |= {'shard_lengths': list(progress.lengths.values()), 'num_samples': sum(progress.lengths.values())}
    about |= {'classes': classes} if classes else {}
    atomic_write(out / INFO[0], json.dumps({'splits': {settings.split: about}}, indent=1) + '\n')
    return progress


def _begin(out: Path, settings: ShardSettings, names: Sequence[str]) -> Progress:
    """Read what is written already, and refuse a folder of something else."""
    if not out.is_dir() and out.exists():
        raise UserError(f'{printable(out)} is no folder: name the folder for the shards.')
    if Path(settings.folder).resolve() in (out.resolve(), *out.resolve().parents):
        raise UserError(f'{printable(out)} lies among the images of {settings.folder}: write elsewhere.')
    text = '\n'.join(names).encode('utf-8', 'surrogateescape')
    wanted = vars(settings) | {'images': hashlib.sha256(text).hexdigest()[:16]}
    try:
        found = Progress(**json.loads((out / PROGRESS).read_bytes()))
    except (OSError, ValueError, TypeError):
        if out.is_dir() and any(not path.name.startswith('.') for path in out.iterdir()):
            raise UserError(f'{printable(out)} holds files that this tool did not write: name a new folder.') from None
        progress = Progress(wanted)
        atomic_write(out / PROGRESS, json.dumps(vars(progress), indent=1))
        return progress
    if differing := [key for key, value in wanted.items() if found.settings.get(key) != value]:
        key = differing[0]
        raise UserError(
            f'{printable(out)} holds shards of other {"images" if key == "images" else "settings"} ({key}: '
            f'{found.settings.get(key)!r} there, {wanted[key]!r} now): repeat those, or name a new folder.'
        )
    remove_partial(out)
    return found


def _make_keys(names: Sequence[str]) -> list[str]:
    """Make a key of each name: without its suffix and further dots, which would end the key, and each once."""
    used: dict[str, int] = {}
    keys = []
    for name in names:
        path = PurePath(name)
        key = str(path.with_name(path.stem.replace('.', '_') or '_'))
        count = used[key] = used.get(key, 0) + 1
        keys.append(key if count == 1 else f'{key}~{count}')
    return keys


def _read_image(settings: ShardSettings, classes: dict[str, int], name: str, key: str) -> ReadImage:
    """Read what a shard holds of an image."""
    path = Path(settings.folder, name)
    try:
        suffix, data = _encode(settings, path)
    except (BrokenImageError, OSError) as error:
        return ReadImage(name, [], getattr(error, 'reason', None) or str(error))
    members = [(f'{key}{suffix}', data)]
    if settings.labels:
        members.append((f'{key}.cls', str(classes[get_class_folder(name, None)]).encode()))
    return ReadImage(name, members, '')


def _encode(settings: ShardSettings, path: Path) -> tuple[str, bytes]:
    """Return suffix and bytes of an image: reduced where that is wanted and possible, otherwise as they are."""
    if settings.short_side is not None:
        file = open_image(path)
        if min(file.size) > settings.short_side:
            image = Resize(settings.short_side).load(file, np.random.default_rng(0))  # (H, W, C)
            if image.dtype == np.uint8 and image.shape[2] in (1, 3):
                space = 'GRAY' if image.shape[2] == 1 else 'RGB'
                return '.jpg', simplejpeg.encode_jpeg(np.ascontiguousarray(image), settings.quality, space)
        decode_image(file)  # so that a broken one is seen
    data = path.read_bytes()
    if not data:
        raise BrokenImageError(path, 'the file is empty')
    return path.suffix.lower(), data


def _fill_shards(
    read: Callable[[str, str], ReadImage], names: Sequence[str], keys: Sequence[str], begin: int, size: int
) -> Iterator[list[ReadImage]]:
    """Read images by several threads, and gather as many as fill a shard."""
    images: list[ReadImage] = []
    taken = 0
    with ThreadPoolExecutor(count_cores()) as pool:
        for first in range(begin, len(names), TOGETHER):
            for image in pool.map(read, names[first : first + TOGETHER], keys[first : first + TOGETHER]):
                images.append(image)
                taken += sum(len(data) for _, data in image.members)
                if taken >= size:
                    yield images
                    images, taken = [], 0
    if images:
        yield images


def _write_shard(out: Path, settings: ShardSettings, images: Sequence[ReadImage], progress: Progress) -> None:
    """Write a shard and its index, and note both."""
    readable = [image for image in images if image.members]
    if readable:
        members = [member for image in readable for member in image.members]
        suffix = 'tar' if settings.format == 'wds' else 'lmdb'
        path = out / f'{settings.split}-{len(progress.lengths):06d}.{suffix}'
        if settings.format == 'wds':
            atomic_write(path, lambda file: _write_tar(file, members))
        else:
            write_lmdb(path, members)
        index: ShardIndex = index_tar(path) if settings.format == 'wds' else index_lmdb(path)
        if len(index) != len(readable) or index.damage:
            raise OSError(f'{path} holds {len(index)} of {len(readable)} images after it was written {index.damage}')
        write_index(path.with_name(path.name + SUFFIX), index, stamp_file(path))
        progress.lengths[path.name] = len(readable)
    for image in images:
        if not image.members:
            progress.skipped += 1
            if len(progress.reasons) < MOST_NAMES:
                progress.reasons[image.name] = image.reason
    progress.done += len(images)


def _write_tar(file: Any, members: Sequence[Member]) -> None:
    """Write a tar whose bytes follow from its members alone."""
    with tarfile.open(fileobj=file, mode='w', format=tarfile.GNU_FORMAT) as tar:
        for name, data in members:
            info = tarfile.TarInfo(name)
            info.size, info.mode = len(data), 0o644
            tar.addfile(info, io.BytesIO(data))
