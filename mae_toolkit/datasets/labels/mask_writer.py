"""Write the masks of a segmenter, and a list of names for each split, as MMSegmentation reads them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from mae_toolkit.datasets.labels.mask_files import read_mask
from mae_toolkit.datasets.labels.masks import IGNORED, THREADS, MaskLabels, Pair
from mae_toolkit.files import atomic_write


@dataclass(frozen=True)
class Roots:
    """Folders of a split, to which the names of its list are relative.

    Attributes:
        images: Of the images.
        masks: Of the masks.
        mask_suffix: What the name of a mask has behind that of its image.
    """

    images: Path
    masks: Path
    mask_suffix: str


def write_masks(labels: MaskLabels, folder: Path) -> dict[str, Roots]:
    """Write a list of names for each split, and the masks themselves where they cannot be used as they are.

    Masks are used as they are if their values are 0, 1, 2, … and 255, and their folders are like those of the images.

    Args:
        labels: The labels.
        folder: The folder, which is made.

    Returns:
        The folders of each split.
    """
    folder.mkdir(parents=True, exist_ok=True)
    splits = labels.splits
    if not labels.is_standard or not all(map(_find_roots, splits.values())):
        splits = _rewrite(labels, folder / 'masks')
    found = {}
    for split, pairs in splits.items():
        roots = _find_roots(pairs)
        assert roots is not None
        names = [pair.image.relative_to(roots.images).with_suffix('').as_posix() for pair in pairs]
        atomic_write(folder / f'{split}.txt', '\n'.join(names) + '\n')
        found[split] = roots
    return found


def _find_roots(pairs: Sequence[Pair]) -> Roots | None:
    """Return the folders of a split if each mask lies in its folder as its image does, else None."""
    image_root, mask_root = _common_root([p.image for p in pairs]), _common_root([p.mask for p in pairs])
    roots = Roots(image_root, mask_root, pairs[0].mask_suffix)
    for pair in pairs:
        name = pair.image.relative_to(roots.images).with_suffix('')
        if roots.masks / f'{name.as_posix()}{roots.mask_suffix}' != pair.mask:
            return None
    return roots


def _common_root(paths: Sequence[Path]) -> Path:
    root = paths[0].parent
    while not all(path.is_relative_to(root) for path in paths):
        root = root.parent
    return root


def _rewrite(labels: MaskLabels, folder: Path) -> dict[str, list[Pair]]:
    """Write masks with the values 0, 1, 2, … and 255 into a folder, in the tree of their images."""
    table = np.full(max([*labels.values, *labels.ignored, IGNORED]) + 1, IGNORED, np.uint8)
    table[labels.values] = np.arange(len(labels.values))
    root = _common_root([pair.image for pairs in labels.splits.values() for pair in pairs])
    labels.notes.append(f'masks are written anew into {folder}, with the values 0, 1, 2, …, and 255 does not count')

    def write(pair: Pair) -> Pair:
        path = folder.resolve() / pair.image.relative_to(root).with_suffix('.png')
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(table[read_mask(pair.mask)]).save(path)
        return Pair(pair.image, path)

    with ThreadPoolExecutor(THREADS) as pool:
        return {split: list(pool.map(write, pairs)) for split, pairs in labels.splits.items()}
