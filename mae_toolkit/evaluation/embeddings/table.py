"""Vectors of images by name: one row per image, one array per level and pooling."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest


@dataclass(frozen=True, eq=False)
class Embeddings:
    """Vectors of images.

    Attributes:
        names: What the images are called, such as paths relative to their folder.
        features: (N, C) float32 by level and pooling, such as ``'level4.mean'``.
        sizes: (N, 2), height and width of each image in its file.
        skipped: Reasons by name, of images that could not be read.
        about: With what they were made: ``encoder``, the hash of its weights, ``source``, the transform, and stamps of
            the files; empty for images in memory.
    """

    names: tuple[str, ...]
    features: Mapping[str, np.ndarray]
    sizes: np.ndarray
    skipped: Mapping[str, str] = field(default_factory=dict)
    about: Mapping[str, Any] = field(default_factory=dict)

    def __repr__(self) -> str:
        """Return how many images and which vectors there are: all numbers would fill the cell of a notebook."""
        shapes = ', '.join(f'{name} {vectors.shape}' for name, vectors in self.features.items())
        return f'Embeddings({len(self)} images, {len(self.skipped)} skipped; {shapes})'

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def __getitem__(self, name: str) -> np.ndarray:
        """Return the vectors (N, C) of a level and pooling.

        Raises:
            UserError: If there are none of that name.
        """
        if name not in self.features:
            raise UserError(f'There are no vectors {name!r}{suggest(name, list(self.features))}')
        return self.features[name]

    @property
    def default(self) -> str:
        """Return the name of the vectors that are used if none are named: the mean of the coarsest level, if there."""
        means = [name for name in self.features if name.endswith('.mean')]
        return (means or list(self.features))[-1]

    def choose(self, name: str | None = None) -> np.ndarray:
        """Return the vectors (N, C) of a level and pooling, or :attr:`default`."""
        return self[self.default if name is None else name]

    def select(self, rows: Sequence[int] | np.ndarray) -> Embeddings:
        """Return the embeddings of some images, by their rows."""
        rows = np.asarray(rows, dtype=int)
        names = tuple(self.names[row] for row in rows)
        features = {name: values[rows] for name, values in self.features.items()}
        return Embeddings(names, features, self.sizes[rows], self.skipped, self.about)

    def labels(self) -> list[str]:
        """Return the class of each image: the first folder of its name.

        Raises:
            UserError: If an image lies in no class folder.
        """
        outside = [name for name in self.names if '/' not in name]
        if outside:
            raise UserError(f'{outside[0]} lies in no class folder: labels are the folders of images.')
        return [name.split('/', 1)[0] for name in self.names]


def join(parts: Sequence[Embeddings]) -> Embeddings:
    """Put embeddings of one encoder below each other."""
    first = parts[0]
    return Embeddings(
        names=tuple(name for part in parts for name in part.names),
        features={name: np.concatenate([part.features[name] for part in parts]) for name in first.features},
        sizes=np.concatenate([part.sizes for part in parts]),
        skipped={name: reason for part in parts for name, reason in part.skipped.items()},
        about=first.about,
    )
