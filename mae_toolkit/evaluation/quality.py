"""What an encoder is worth on a few images in memory, with labels or without: every measure in one pass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import adaptive_avg_pool2d

from mae_toolkit.evaluation.effective_rank import compute_effective_rank
from mae_toolkit.evaluation.knn import compute_knn_accuracy
from mae_toolkit.evaluation.labeled_images import Batch, LabeledImages
from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.evaluation.patch_knn import Crops, compute_patch_knn_accuracy

ROWS = 512  # most rows of features whose rank is computed
CELLS = 36  # patches of a map in which a place can be missed
POSITIONS = 16  # rows and columns to which larger maps are averaged before patches are compared with masks
PATCHES = 2000  # of training images, among which neighbors are looked for
NEIGHBORS = 10  # patches that vote


@dataclass(frozen=True)
class _Encoded:
    """Features of the images of a split, of which a list has one entry per level.

    Attributes:
        pooled: Maps averaged over their positions, (N, C_i).
        patches: Two patches of each image, (2 N, C).
        maps: (N, C_i, h, w), at most :data:`POSITIONS` high and wide; empty for images without masks.
        labels: Classes (N,) or masks (N, H, W).
        level: Index of the level from which patches are.
    """

    pooled: list[Tensor]
    patches: Tensor
    maps: list[Tensor]
    labels: Tensor
    level: int


def measure_labeled(model: Any, images: LabeledImages, seed: int = 0) -> dict[str, float]:
    """Measure an encoder on labeled images.

    Args:
        model: A :class:`MaskedAutoencoder`; its modes are kept.
        images: The images.
        seed: Seed of the choice of patches.

    Returns:
        In percent, ``knn``, the accuracy of nearest neighbors by the average of the last map; or, with masks,
        ``patch_knn_miou``, the mean IoU of pixels that have the class of the most similar training patches, in the
        deepest map that is fine enough to tell places apart, see :func:`.probes.dense.segment_by_neighbors`. If there
        are several maps, the same of each level, ``knn_level1`` the finest. And the ranks of :func:`measure_unlabeled`,
        of the training images.
    """
    with evaluating(model):
        train, test = (_encode_split(model, batches, images.has_masks) for batches in (images.train, images.test))
    if images.has_masks:
        name, scores = 'patch_knn_miou', _segment(train, test, images.classes, seed, _find_device(model))
        chosen = scores[train.level]
    else:
        name, scores = 'knn', _classify(train, test)
        chosen = scores[-1]
    levels = {f'{name}_level{i}': 100 * score for i, score in enumerate(scores, 1)} if len(scores) > 1 else {}
    return {name: 100 * chosen} | levels | _measure_ranks(train.pooled[-1], train.patches)


def _encode_split(model: Any, batches: Sequence[Batch], keep_maps: bool) -> _Encoded:
    """Encode the images of a split once."""
    pooled, patches, maps, level = [], [], [], 0
    for batch in batches:
        encoded = model.encoder(model.data_preprocessor(batch, False)['imgs'])
        level = _choose_level(encoded)
        pooled.append([_pool(x) for x in encoded])
        patches.append(_choose_patches(encoded))
        if keep_maps:
            maps.append([_shrink(x) for x in encoded])
    return _Encoded(
        [torch.cat(parts) for parts in zip(*pooled, strict=True)],
        torch.cat(patches),
        [torch.cat(parts) for parts in zip(*maps, strict=True)],
        torch.cat([batch['labels'] for batch in batches]),
        level,
    )


def _classify(train: _Encoded, test: _Encoded) -> list[float]:
    """Return the accuracy of nearest neighbors by each level."""
    return [
        compute_knn_accuracy(known, train.labels, asked, test.labels)
        for known, asked in zip(train.pooled, test.pooled, strict=True)
    ]


def _segment(train: _Encoded, test: _Encoded, classes: int, seed: int, device: torch.device) -> list[float]:
    """Return the mean IoU of nearest patches by each level."""
    from mae_toolkit.evaluation.probes.data import Part  # which imports scikit-learn
    from mae_toolkit.evaluation.probes.dense import segment_by_neighbors

    with torch.autocast(device.type, enabled=False):  # cosines in half precision would be those of other neighbors
        return [
            segment_by_neighbors(
                Part(known, train.labels), Part(asked, test.labels), classes, NEIGHBORS, PATCHES, seed, device
            )['miou']
            for known, asked in zip(train.maps, test.maps, strict=True)
        ]


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
            pooled.append(_pool(first[-1]))
            patches.append(_choose_patches(first))
    count = sum(len(x) for x in pooled)
    ranks = _measure_ranks(torch.cat(pooled), torch.cat(patches))
    return {'patch_knn': 100 * sum(accuracies) / count} | ranks


def _find_device(model: Any) -> torch.device:
    """Return where neighbors are looked for: with the model, but for devices without double precision."""
    device = next(model.parameters()).device
    return device if device.type == 'cuda' else torch.device('cpu')


def _pool(x: Tensor) -> Tensor:
    """Average a map over its positions: (B, C)."""
    return x.float().mean((2, 3)).cpu()


def _shrink(x: Tensor) -> Tensor:
    """Average a large map (B, C, h, w) to :data:`POSITIONS`, on the CPU."""
    size = (min(x.shape[2], POSITIONS), min(x.shape[3], POSITIONS))
    return (x.float() if x.shape[2:] == size else adaptive_avg_pool2d(x.float(), size)).cpu()


def _choose_level(maps: Sequence[Tensor]) -> int:
    """Return the index of the deepest map that is fine enough to tell places apart."""
    return next((i for i in reversed(range(len(maps))) if maps[i].shape[2] * maps[i].shape[3] >= CELLS), 0)


def _choose_map(maps: Sequence[Tensor]) -> Tensor:
    return maps[_choose_level(maps)]


def _choose_patches(maps: Sequence[Tensor]) -> Tensor:
    """Return two patches of each image, (2 * B, C): their ranks would repeat those of neighbors."""
    flat = _choose_map(maps).float().flatten(2)  # (B, C, N)
    count = flat.shape[2]
    return torch.cat([flat[:, :, count // 3], flat[:, :, 2 * count // 3]]).cpu()


def _measure_ranks(pooled: Tensor, patches: Tensor) -> dict[str, float]:
    thinned = [x[:: -(-len(x) // ROWS)] for x in (pooled, patches)]
    names = ('effective_rank', 'patch_effective_rank')
    return {name: compute_effective_rank(x) for name, x in zip(names, thinned, strict=True)}
