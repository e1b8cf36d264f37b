"""What an encoder is worth on a few images in memory, with labels or without: every measure in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from mae_toolkit.datasets.collate import image_collate
from mae_toolkit.datasets.labeled_dataset import LabeledDataset
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.effective_rank import compute_effective_rank
from mae_toolkit.evaluation.knn import compute_knn_accuracy
from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.evaluation.patch_knn import Crops, compute_patch_knn_accuracy
from mae_toolkit.spread import spread_indices

Batch = Mapping[str, Any]  # as image_collate makes it
BATCH = 32
ROWS = 512  # most rows of features whose rank is computed
CELLS = 36  # patches of a map in which a place can be missed
HELD_OUT = 4  # of a folder without a split, one image in so many is classified by the others
SPLITS = ('train', 'test')


@dataclass(frozen=True)
class LabeledImages:
    """Batches of labeled images in memory.

    Attributes:
        train: Images among which neighbors are looked for.
        test: Images that are classified.
    """

    train: Sequence[Batch]
    test: Sequence[Batch]


def load_labeled_images(folder: str | Path, size: Sequence[int], channels: int, images: int) -> LabeledImages:
    """Load labeled images, resized and cut to one size.

    Args:
        folder: Folder with ``train/<class>`` and ``test/<class>``; or with class folders, of whose images every fourth
            is classified by the others.
        size: Height and width of the images.
        channels: Their channels.
        images: How many of each split are loaded at most, at equal distances in their list, which is sorted by class.

    Raises:
        UserError: If there is no such folder, or there are fewer than two classes in it.
    """
    pipeline: list[Any] = [
        dict(type='mae_toolkit.Resize', size=max(size)),
        dict(type='mae_toolkit.CenterCrop', size=tuple(size)),
    ]
    train, test = list_labeled_images(folder, pipeline, channels)
    return LabeledImages(*(load_batches(dataset, images, indices) for dataset, indices in (train, test)))


def list_labeled_images(
    folder: str | Path, pipeline: Sequence[Any], channels: int
) -> tuple[tuple[LabeledDataset, Sequence[int]], tuple[LabeledDataset, Sequence[int]]]:
    """List labeled images without reading them.

    Args:
        folder: Folder with ``train/<class>`` and ``test/<class>``, or with class folders.
        pipeline: Transforms of the images.
        channels: Their channels.

    Returns:
        A dataset and indices in it, twice: of the images among which neighbors are looked for, and of the others.

    Raises:
        UserError: If there is no such folder, or there are too few classes or images in it.
    """
    if not Path(folder).is_dir():
        raise UserError(f'There is no folder {folder} of labeled images: name one with class folders in it.')
    if all(Path(folder, split).is_dir() for split in SPLITS):
        train = LabeledDataset(folder, pipeline, split='train', channels=channels)
        classes = train.metainfo['classes']
        test = LabeledDataset(folder, pipeline, split='test', channels=channels, classes=classes)
        return (train, range(len(train))), (test, range(len(test)))
    whole = LabeledDataset(folder, pipeline, channels=channels)
    if len(whole) < HELD_OUT:
        raise UserError(f'{folder} has {len(whole)} labeled images: {HELD_OUT} or more are needed to compare them.')
    tested = [i for i in range(len(whole)) if i % HELD_OUT == HELD_OUT - 1]
    rest = [i for i in range(len(whole)) if i % HELD_OUT != HELD_OUT - 1]
    return (whole, rest), (whole, tested)


def load_batches(
    dataset: Any, images: int, indices: Sequence[int] | None = None, collate: Any = image_collate
) -> list[Batch]:
    """Load images of a dataset at equal distances, without an effect on random generators.

    Args:
        dataset: Dataset of images.
        images: How many are loaded at most.
        indices: Indices to choose from; all if None.
        collate: Makes a batch of items.
    """
    indices = range(len(dataset)) if indices is None else indices
    chosen = [indices[place] for place in spread_indices(len(indices), images)]
    with torch.random.fork_rng(range(torch.cuda.device_count())):  # datasets of other libraries draw from them
        return [collate([dataset[i] for i in chosen[j : j + BATCH]]) for j in range(0, len(chosen), BATCH)]


def measure_labeled(model: Any, images: LabeledImages) -> dict[str, float]:
    """Measure an encoder on labeled images.

    Args:
        model: A :class:`MaskedAutoencoder`; its modes are kept.
        images: The images.

    Returns:
        ``knn``, the accuracy of nearest neighbors in percent; and the ranks of :func:`measure_unlabeled`, of the
        training images.
    """
    pooled, patches, labels = {}, {}, {}
    with evaluating(model):
        for split in SPLITS:
            encoded = [_encode(model, batch) for batch in getattr(images, split)]
            pooled[split] = torch.cat([_pool(maps) for maps in encoded])
            patches[split] = torch.cat([_choose_patches(maps) for maps in encoded])
            labels[split] = torch.cat([batch['labels'] for batch in getattr(images, split)])
    accuracy = compute_knn_accuracy(pooled['train'], labels['train'], pooled['test'], labels['test'])
    return {'knn': 100 * accuracy} | _measure_ranks(pooled['train'], patches['train'])


def measure_unlabeled(model: Any, batches: Sequence[Batch], seed: int = 0) -> dict[str, float]:
    """Measure an encoder on images without labels, by two crops of each.

    The crops and a change of brightness and contrast of one of them follow from the seed: they are the same each time.

    Args:
        model: A :class:`MaskedAutoencoder`; its modes are kept.
        batches: Images, all of one size.
        seed: Seed of the crops.

    Returns:
        ``patch_knn``, how many patches find their own place in the other crop, in percent, see
        :func:`compute_patch_knn_accuracy`; ``effective_rank`` of the averaged maps of the first crops and
        ``patch_effective_rank`` of patches from all of them, see :func:`compute_effective_rank`.
    """
    generator = torch.Generator().manual_seed(seed)
    accuracies, pooled, patches = [], [], []
    with evaluating(model):
        for batch in batches:
            imgs = model.data_preprocessor(batch, False)['imgs']  # (B, C, H, W)
            crops = Crops.draw(len(imgs), generator), Crops.draw(len(imgs), generator)
            gain, shift = 0.8 + 0.4 * torch.rand(2, len(imgs), 1, 1, 1, generator=generator).to(imgs)
            first = model.encoder(crops[0].cut(imgs))
            second = model.encoder(crops[1].cut(imgs) * gain + shift - 1)
            found = compute_patch_knn_accuracy(_choose_map(first), _choose_map(second), *crops)
            accuracies.append(found * len(imgs))
            pooled.append(_pool(first))
            patches.append(_choose_patches(first))
    count = sum(len(x) for x in pooled)
    ranks = _measure_ranks(torch.cat(pooled), torch.cat(patches))
    return {'patch_knn': 100 * sum(accuracies) / count} | ranks


def _encode(model: Any, batch: Batch) -> Sequence[Tensor]:
    return model.encoder(model.data_preprocessor(batch, False)['imgs'])


def _pool(maps: Sequence[Tensor]) -> Tensor:
    """Average the last map over its positions: (B, C)."""
    return maps[-1].float().mean((2, 3)).cpu()


def _choose_map(maps: Sequence[Tensor]) -> Tensor:
    """Return the deepest map that is fine enough to tell places apart."""
    return next((x for x in reversed(maps) if x.shape[2] * x.shape[3] >= CELLS), maps[0])


def _choose_patches(maps: Sequence[Tensor]) -> Tensor:
    """Return two patches of each image, (2 * B, C): their ranks would repeat those of neighbors."""
    flat = _choose_map(maps).float().flatten(2)  # (B, C, N)
    count = flat.shape[2]
    return torch.cat([flat[:, :, count // 3], flat[:, :, 2 * count // 3]]).cpu()


def _measure_ranks(pooled: Tensor, patches: Tensor) -> dict[str, float]:
    thinned = [x[:: -(-len(x) // ROWS)] for x in (pooled, patches)]
    names = ('effective_rank', 'patch_effective_rank')
    return {name: compute_effective_rank(x) for name, x in zip(names, thinned, strict=True)}
