"""A dataset that keeps a fraction of another dataset's images, for training with few labels."""

from __future__ import annotations

from typing import Any

from mmengine.dataset import BaseDataset

from mae_toolkit.datasets.item_arguments import check_integer
from mae_toolkit.datasets.labeled_dataset import check_fraction, select_fraction
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import CanBeCut
from mae_toolkit.registry import DATASETS


@DATASETS.register_module()
class SubsetByFraction:
    """A fixed fraction of the images of an MMEngine dataset, such as MMDetection's or MMSegmentation's.

    The seed alone decides which images are kept. It is not the seed of the run, so that runs with different seeds
    train on the same images, and the images of a smaller fraction are among those of a larger one. Images that the
    dataset's own filters drop are not counted. The other images are removed from the wrapped dataset itself, so that
    code that looks into it sees the subset too. In a config::

        dataset=dict(type='mae_toolkit.SubsetByFraction', fraction=0.1, dataset=dict(type='CocoDataset', ...))

    Args:
        dataset: The dataset or its config. A dataset that is already built loses its other images.
        fraction: Fraction of the images to keep, above 0 and at most 1. The number of images is rounded, and at least
            one is kept.
        seed: Seed of the choice of images.

    Attributes:
        dataset: The wrapped dataset, without the images that were left out.

    Raises:
        UserError: If the fraction is out of range, or the dataset has no ``get_subset_`` to cut it with.
    """

    has_own_seed = True  # the runner passes its own seed to datasets that do not say this

    def __init__(self, dataset: dict | BaseDataset, fraction: float, seed: int = 0) -> None:
        check_fraction('fraction', fraction)
        check_integer('seed', seed, 0, 'the seed that chooses the images')
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if not isinstance(self.dataset, CanBeCut):
            raise UserError(
                f'SubsetByFraction cannot cut a {type(self.dataset).__name__}: put it around the inner dataset; a '
                'LabeledDataset takes label_fraction=... itself.'
            )
        self.dataset.full_init()
        num_images = len(self.dataset)  # type: ignore[arg-type]  # MMEngine datasets have a length
        kept = select_fraction([0] * num_images, fraction, seed)
        self.dataset.get_subset_(kept.tolist())

    @property
    def metainfo(self) -> dict[str, Any]:
        """Return the meta information of the wrapped dataset, such as its ``classes``."""
        return self.dataset.metainfo

    def full_init(self) -> None:
        """Do nothing: the dataset was initialized in the constructor."""

    def get_data_info(self, idx: int) -> dict[str, Any]:
        """Return the annotations of an image, which is not read."""
        return self.dataset.get_data_info(idx)

    def get_cat_ids(self, idx: int) -> list[int]:
        """Return the class indices of the objects in an image."""
        return self.dataset.get_cat_ids(idx)

    def __getitem__(self, idx: int) -> Any:
        """Return an item as the dataset's pipeline makes it."""
        return self.dataset[idx]

    def __len__(self) -> int:
        """Return the number of images that were kept."""
        return len(self.dataset)
