"""What the probes read: the features of a labeled set by level and pooling."""

from __future__ import annotations

import torch
from torch import Tensor

from mae_toolkit.evaluation.probes.data import Part, ProbeData, hold_out
from mae_toolkit.evaluation.probes.maps import EncodedImages
from mae_toolkit.evaluation.probes.sets import LabeledSet, load_masks, read_labels


class ProbeInputs:
    """Make the data of each level and pooling, with the same labels and splits for all of them.

    Args:
        labeled: The set, with the images in the order of the features.
        encoded: Its features.
        seed: Seed of the held-out part of the training images, and of the probes.

    Attributes:
        held_out: Training images (N,) bool on which the settings of probes are chosen.
    """

    def __init__(self, labeled: LabeledSet, encoded: EncodedImages, seed: int = 0) -> None:
        self.labeled, self.encoded, self.seed = labeled, encoded, seed
        if labeled.masks:
            self._labels = load_masks(labeled, encoded.embeddings.sizes, encoded.size)
        else:
            self._labels = read_labels(labeled)
        # One split stands behind the other, so that its features are a view: maps are large.
        self._rows = {name: slice(part[0], part[-1] + 1) for name, part in labeled.splits.items()}
        assert all(
            part == list(range(*self._rows[name].indices(part[-1] + 1))) for name, part in labeled.splits.items()
        )
        self.held_out = hold_out([labeled.strata[row] for row in labeled.splits['train']], seed)

    def __call__(self, name: str) -> ProbeData:
        """Return the data of a level and pooling, such as ``'level4.mean'`` or ``'level4.patches'``."""
        features = self._find(name)
        rows = (self._rows[split] for split in ('train', 'val', 'test'))
        train, val, test = (Part(features[one], self._labels[one]) for one in rows)
        return ProbeData(train, val, test, len(self.labeled.classes), self.held_out, self.seed)

    def _find(self, name: str) -> Tensor:
        maps = self.encoded.maps
        return maps[name] if name in maps else torch.from_numpy(self.encoded.embeddings[name])
