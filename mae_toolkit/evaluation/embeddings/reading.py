"""Images of any kind: listed, read in the background, and put into batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from mae_toolkit.datasets.any_image import as_image_file
from mae_toolkit.datasets.image_files import find_images
from mae_toolkit.datasets.image_io import BrokenImageError
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable

FEW = 64  # images that are not worth processes that read them
MOST_WORKERS = 8
ONE_IMAGE = (str, Path, np.ndarray, Image.Image)
NO_IMAGE = 'Images are paths, folders, NumPy arrays (H, W, C) or pictures of Pillow'
Images = str | Path | np.ndarray | Image.Image | Iterable[str | Path | np.ndarray | Image.Image]


@dataclass(frozen=True)
class ReadItem:
    """An image that a worker has read, or why it could not."""

    index: int
    size: tuple[int, int]
    content: Any


@dataclass(frozen=True)
class ReadBatch:
    """Images that a worker has read, and why it could not read others.

    One tensor per batch, as each one that a worker sends takes an open file.
    """

    indices: list[int]
    sizes: list[tuple[int, int]]
    imgs: Tensor | None
    skipped: dict[int, str]
    error: UserError | None = None


class ReadItems(Dataset):
    """Images of any kind, each as an :class:`ReadItem`."""

    def __init__(self, items: Sequence[Any], transform: Callable[[Any], Any]) -> None:
        self.items, self.transform = items, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> ReadItem:
        try:
            file = as_image_file(self.items[index], getattr(self.transform, 'limits', DEFAULT_LIMITS))
            return ReadItem(index, file.size, self.transform(file))
        except BrokenImageError as error:
            return ReadItem(index, (0, 0), error.reason)
        except UserError as error:  # raised again by the process of the user: a worker would wrap it into its trace
            return ReadItem(index, (0, 0), error)


def list_items(images: Images) -> tuple[list[Any], list[str]]:
    """List images of any kind, and what they are called.

    Args:
        images: See :class:`~mae_toolkit.evaluation.embeddings.FeatureExtractor`.

    Returns:
        Paths, each once, arrays and pictures; and their names: of the images below one folder, their paths relative to
        it.

    Raises:
        UserError: If there are none, a path does not exist, or something is no image.
    """
    if not isinstance(images, ONE_IMAGE) and not isinstance(images, Iterable):
        raise UserError(f'{NO_IMAGE}, or a list of them, not {_describe_type(images)}.')
    given = [images] if isinstance(images, ONE_IMAGE) else list(images)
    items: list[Any] = []
    listed: set[Path] = set()
    for one in given:
        if not isinstance(one, ONE_IMAGE):
            raise UserError(f'{NO_IMAGE}, not {_describe_type(one)}.')
        found = [path for path in find_images([one]) if path not in listed] if isinstance(one, str | Path) else [one]
        listed |= {path for path in found if isinstance(path, Path)}
        items += found
    if not items:
        raise UserError('There are no images: name a folder, a file, or pass an array.')
    root = given[0] if len(given) == 1 and isinstance(given[0], str | Path) and Path(given[0]).is_dir() else None
    return items, [_name(item, number, root) for number, item in enumerate(items)]


def read_batches(
    items: Sequence[Any], transform: Callable[[Any], Tensor], batch_size: int, workers: int | None = None
) -> DataLoader:
    """Read images in batches, in the background if there are many.

    Args:
        items: Paths, arrays and pictures, as :func:`list_items` lists them.
        transform: From an image to a tensor (C, H, W).
        batch_size: Images per batch.
        workers: Processes that read; 0 reads in this one, None chooses by the number of images and cores.
    """
    if workers is None:
        workers = 0 if len(items) <= FEW else min(MOST_WORKERS, torch.get_num_threads())
    generator = torch.Generator()  # or else it takes a number from the random numbers of the whole process
    items_to_read = ReadItems(items, transform)
    return DataLoader(items_to_read, batch_size, num_workers=workers, collate_fn=_collate, generator=generator)


def refuse_none_read(count: int, skipped: Mapping[str, str], what: str = '') -> NoReturn:
    """Refuse to go on when none of the images can be read.

    Args:
        count: How many images were tried.
        skipped: Reasons by name; the first is given.
        what: What the images are called, if there are several sets of them.

    Raises:
        UserError: In any case.
    """
    name, reason = next(iter(skipped.items()))
    of = format_count(count, 'image') + (f' ({what})' if what else '')
    raise UserError(f'None of {of} can be read; {printable(name)}: {printable(reason)}.')


def _collate(items: Sequence[ReadItem]) -> ReadBatch:
    """Put the images of a batch together."""
    error = next((item.content for item in items if isinstance(item.content, UserError)), None)
    skipped = {item.index: item.content for item in items if isinstance(item.content, str)}
    read = [(item.index, item.size, item.content) for item in items if isinstance(item.content, Tensor)]
    shapes = sorted({tuple(img.shape) for _, _, img in read})
    if error is None and len(shapes) > 1:
        sizes = ' and '.join('x'.join(map(str, shape[1:])) for shape in shapes[:2])
        error = UserError(f'Images of {sizes} pixels are in one batch: set batch_size=1, or resize them to one size.')
    imgs = torch.stack([img for _, _, img in read]) if read and error is None else None  # (B, C, H, W)
    return ReadBatch([index for index, _, _ in read], [size for _, size, _ in read], imgs, skipped, error)


def _describe_type(value: object) -> str:
    advice = ': convert it with .permute(1, 2, 0).numpy()' if isinstance(value, Tensor) else ''
    return f'{type(value).__name__}{advice}'


def _name(item: Any, number: int, root: str | Path | None) -> str:
    if not isinstance(item, Path):
        return f'image {number}'
    return str(item.relative_to(root)) if root else str(item)
