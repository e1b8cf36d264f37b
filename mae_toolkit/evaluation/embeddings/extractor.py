"""The features of many images: read in the background, encoded in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from mae_toolkit.datasets.any_image import as_image_file
from mae_toolkit.datasets.image_files import find_images
from mae_toolkit.datasets.image_io import BrokenImageError
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.pooling import POOLINGS, check_poolings, pool_features
from mae_toolkit.evaluation.embeddings.table import Embeddings
from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.features import Features
from mae_toolkit.printing import format_count

FEW = 64  # images that are not worth processes that read them
MOST_WORKERS = 8
Images = str | Path | np.ndarray | Image.Image | Sequence[str | Path | np.ndarray | Image.Image]


@dataclass(frozen=True)
class EncodedBatch:
    """Images of a batch that could be read, and their features.

    Attributes:
        indices: Positions of the images in the list that was asked for.
        sizes: Height and width of each image in its file, in pixels.
        imgs: What the encoder saw, (B, C, H, W).
        features: Its maps and tokens.
    """

    indices: list[int]
    sizes: list[tuple[int, int]]
    imgs: Tensor
    features: Features


class FeatureExtractor:
    """Extract the features of images with an encoder, in batches and with a progress bar.

    Example::

        extractor = FeatureExtractor(*load_encoder('runs/photos'))
        embeddings = extractor('photos/')  # or a list of files, an array, a picture of Pillow
        vectors = embeddings['level4.mean']  # (N, C), a row for each of embeddings.names
        for batch in extractor.encode(['a.jpg', 'b.jpg']):
            batch.features.maps[-1]  # (B, C, h, w)

    Args:
        encoder: The encoder, on the device on which it is to run.
        transform: From an image to the tensor (C, H, W) that the encoder takes. An image of which it raises a
            :class:`BrokenImageError` is skipped.
        poolings: What makes a vector of a map or of the class tokens, see :data:`~.pooling.POOLINGS`.
        levels: Levels whose vectors are kept, counted from 1 for the finest; all if None.
        batch_size: Images per batch.
        workers: Processes that read images; 0 reads in this one, None chooses by the number of images and cores.

    Attributes:
        skipped: Reasons by name, of the images that the last call could not read.

    Raises:
        UserError: If a pooling or level is unknown.
    """

    def __init__(
        self,
        encoder: Encoder,
        transform: Callable[[Any], Tensor],
        poolings: Sequence[str] = POOLINGS,
        levels: Sequence[int] | None = None,
        batch_size: int = 32,
        workers: int | None = None,
    ) -> None:
        check_poolings(poolings)
        _check_levels(levels, len(encoder.out_channels))
        self.encoder, self.transform = encoder, transform
        self.poolings, self.levels = tuple(poolings), levels
        self.batch_size, self.workers = batch_size, workers
        self.skipped: dict[str, str] = {}

    def __call__(self, images: Images, show_progress: bool = True) -> Embeddings:
        """Make the vectors of images.

        Args:
            images: A folder, a file, a pattern, an array (H, W) or (H, W, C), a picture of Pillow, or several of them.
            show_progress: Show a bar where it takes more than a second.

        Returns:
            Names, sizes and vectors of the images that could be read, and what was skipped.

        Raises:
            UserError: If there are no images, or none can be read.
        """
        items, names = list_items(images)
        found = self.embed(items, names, show_progress)
        if not len(found):
            name, reason = next(iter(self.skipped.items()))
            raise UserError(f'None of {format_count(len(items), "image")} can be read; {name}: {reason}.')
        return found

    def embed(self, items: Images, names: Sequence[str], show_progress: bool = True) -> Embeddings:
        """Make the vectors of images under given names; see :meth:`__call__`, which also refuses to return nothing."""
        indices: list[int] = []
        sizes: list[tuple[int, int]] = []
        vectors: dict[str, list[Tensor]] = {}
        for batch in self.encode(items, names, show_progress):
            indices += batch.indices
            sizes += batch.sizes
            for name, rows in pool_features(batch.features, self.poolings, self.levels).items():
                vectors.setdefault(name, []).append(rows.cpu())
        features = {name: torch.cat(rows).numpy() for name, rows in vectors.items()}
        if not features:
            features = {'none': np.zeros((0, 1), np.float32)}
        return Embeddings(
            names=tuple(names[index] for index in indices),
            features=features,
            sizes=np.array(sizes, dtype=int).reshape(-1, 2),
            skipped=dict(self.skipped),
        )

    def encode(
        self, images: Images, names: Sequence[str] | None = None, show_progress: bool = True
    ) -> Iterator[EncodedBatch]:
        """Encode images batch by batch.

        Args:
            images: See :meth:`__call__`.
            names: What the images are called in :attr:`skipped`; by their paths if None.
            show_progress: Show a bar where it takes more than a second.

        Yields:
            The images of a batch that could be read, in the order of ``images``. All images of a batch have one size; a
            transform that keeps the sizes of images needs ``batch_size=1``.
        """
        items, found = list_items(images)
        names = found if names is None else list(names)
        self.skipped = {}
        loader = self._load(items)
        with tqdm(total=len(items), desc='encoding images', unit='image', delay=1, disable=not show_progress) as bar:
            for loaded in loader:
                for item in loaded:
                    if isinstance(item.content, UserError):
                        raise item.content
                read = [item for item in loaded if not isinstance(item.content, str)]
                self.skipped |= {names[item.index]: item.content for item in loaded if isinstance(item.content, str)}
                if read:
                    yield self._encode(read)
                bar.update(len(loaded))

    def _encode(self, items: Sequence[ReadItem]) -> EncodedBatch:
        device = next(self.encoder.parameters()).device
        imgs = torch.stack([item.content for item in items]).to(device)  # (B, C, H, W)
        with evaluating(self.encoder):
            features = self.encoder.encode(imgs)
        return EncodedBatch([item.index for item in items], [item.size for item in items], imgs, features)

    def _load(self, items: Sequence[Any]) -> DataLoader:
        workers = self.workers
        if workers is None:
            workers = 0 if len(items) <= FEW else min(MOST_WORKERS, torch.get_num_threads())
        return DataLoader(ReadItems(items, self.transform), self.batch_size, num_workers=workers, collate_fn=list)


def list_items(images: Images) -> tuple[list[Any], list[str]]:
    """List images of any kind, and what they are called.

    Args:
        images: See :meth:`FeatureExtractor.__call__`.

    Returns:
        Paths, arrays and pictures; and their names: of the images below one folder, their paths relative to it.

    Raises:
        UserError: If there are none, or a path does not exist.
    """
    given = [images] if isinstance(images, str | Path | np.ndarray | Image.Image) else list(images)
    items: list[Any] = []
    for one in given:
        items += find_images([one]) if isinstance(one, str | Path) else [one]
    if not items:
        raise UserError('There are no images: name a folder, a file, or pass an array.')
    root = given[0] if len(given) == 1 and isinstance(given[0], str | Path) and Path(given[0]).is_dir() else None
    return items, [_name(item, number, root) for number, item in enumerate(items)]


def _check_levels(levels: Sequence[int] | None, count: int) -> None:
    wrong = [level for level in levels or () if not 1 <= level <= count]
    if wrong:
        raise UserError(f'There is no level {wrong[0]}: the encoder has {format_count(count, "level")}, 1 the finest.')


def _name(item: Any, number: int, root: str | Path | None) -> str:
    if not isinstance(item, Path):
        return f'image {number}'
    return str(item.relative_to(root)) if root else str(item)


@dataclass(frozen=True)
class ReadItem:
    """An image that a worker has read, or why it could not."""

    index: int
    size: tuple[int, int]
    content: Any


class ReadItems(Dataset):
    """Images of any kind, each as an :class:`ReadItem`."""

    def __init__(self, items: Sequence[Any], transform: Callable[[Any], Any]) -> None:
        self.items, self.transform = items, transform

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> ReadItem:
        try:
            file = as_image_file(self.items[index])
            return ReadItem(index, file.size, self.transform(file))
        except BrokenImageError as error:
            return ReadItem(index, (0, 0), error.reason)
        except UserError as error:  # raised again by the process of the user: a worker would wrap it into its trace
            return ReadItem(index, (0, 0), error)
