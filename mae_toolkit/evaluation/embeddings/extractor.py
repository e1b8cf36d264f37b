"""The features of many images: read in the background, encoded in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.parts import encode_in_parts, join_features
from mae_toolkit.evaluation.embeddings.pooling import POOLINGS, check_poolings, pool_features
from mae_toolkit.evaluation.embeddings.reading import Images, ReadBatch, list_items, read_batches, refuse_none_read
from mae_toolkit.evaluation.embeddings.table import Embeddings
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.features import Features
from mae_toolkit.printing import format_count


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


class ImageBatch(NamedTuple):
    """Images of a batch that could be read.

    Attributes:
        indices: Positions of the images in the list that was asked for.
        imgs: (B, C, H, W), as the encoder takes them, on its device.
    """

    indices: list[int]
    imgs: Tensor


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
        notes: What files say beside the vectors, such as the ``source`` of the encoder.

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
        check_levels(levels, len(encoder.out_channels))
        self.encoder, self.transform = encoder, transform
        self.poolings, self.levels = tuple(poolings), levels
        self.batch_size, self.workers = batch_size, workers
        self.skipped: dict[str, str] = {}
        self.notes: Mapping[str, Any] = {}

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
            refuse_none_read(len(items), self.skipped)
        return found

    def embed(
        self,
        items: Images,
        names: Sequence[str],
        show_progress: bool = True,
        advance: Callable[[int], object] | None = None,
    ) -> Embeddings:
        """Make the vectors of images under given names; see :meth:`__call__`, which also refuses to return nothing.

        Args:
            items: The images.
            names: Their names.
            show_progress: Show a bar where it takes more than a second.
            advance: Is called with the number of images of each batch, as for a bar of the caller's own.
        """
        indices: list[int] = []
        sizes: list[tuple[int, int]] = []
        vectors: dict[str, list[Tensor]] = {}
        about = (self.poolings, self.levels, self.encoder.has_class_token)
        for loaded, imgs in self._read(list_items(items)[0], names, show_progress):
            indices += loaded.indices
            sizes += loaded.sizes
            for pooled in encode_in_parts(self.encoder, imgs, lambda features: pool_features(features, *about)):
                if not pooled:
                    asked = ' and '.join(self.poolings)
                    raise UserError(f'The encoder has no tokens for the pooling {asked}: choose mean, max or gem.')
                for name, rows in pooled.items():
                    vectors.setdefault(name, []).append(rows.cpu())
            if advance is not None:
                advance(len(loaded.indices))
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
        for loaded, imgs in self._read(items, names, show_progress):
            parts = encode_in_parts(self.encoder, imgs, lambda features: features)
            yield EncodedBatch(loaded.indices, loaded.sizes, imgs, join_features(parts))

    def read_images(
        self, images: Images, names: Sequence[str] | None = None, show_progress: bool = True
    ) -> Iterator[Tensor]:
        """Yield images batch by batch, (B, C, H, W), as :meth:`read_batches` reads them."""
        return (batch.imgs for batch in self.read_batches(images, names, show_progress))

    def read_batches(
        self, images: Images, names: Sequence[str] | None = None, show_progress: bool = True
    ) -> Iterator[ImageBatch]:
        """Read images batch by batch, as the encoder takes them, without encoding them.

        Args:
            images: See :meth:`__call__`.
            names: What the images are called in :attr:`skipped`; by their paths if None.
            show_progress: Show a bar where it takes more than a second.

        Yields:
            The images of a batch that could be read, in the order of ``images``.

        Raises:
            UserError: At the end, if none could be read.
        """
        items, found = list_items(images)
        count = 0
        for loaded, imgs in self._read(items, found if names is None else list(names), show_progress):
            count += len(loaded.indices)
            yield ImageBatch(loaded.indices, imgs)
        if not count:
            refuse_none_read(len(items), self.skipped)

    def _read(
        self, items: Sequence[Any], names: Sequence[str], show_progress: bool
    ) -> Iterator[tuple[ReadBatch, Tensor]]:
        """Yield batches of images that could be read, and their tensors on the device of the encoder."""
        self.skipped = {}
        device = next(self.encoder.parameters()).device
        with tqdm(total=len(items), desc='encoding images', unit='image', delay=1, disable=not show_progress) as bar:
            for loaded in read_batches(items, self.transform, self.batch_size, self.workers):
                if loaded.error is not None:
                    raise loaded.error
                self.skipped |= {names[index]: reason for index, reason in loaded.skipped.items()}
                if loaded.imgs is not None:
                    yield loaded, loaded.imgs.to(device)
                bar.update(len(loaded.indices) + len(loaded.skipped))


def check_levels(levels: Sequence[int] | None, count: int) -> None:
    """Refuse levels that an encoder with so many does not have; None asks for all.

    Raises:
        UserError: If none is asked for, or one is not there.
    """
    if levels is not None and not levels:
        raise UserError(f'No level is asked for: the encoder has {format_count(count, "level")}, 1 the finest.')
    wrong = [level for level in levels or () if not 1 <= level <= count]
    if wrong:
        raise UserError(f'There is no level {wrong[0]}: the encoder has {format_count(count, "level")}, 1 the finest.')
