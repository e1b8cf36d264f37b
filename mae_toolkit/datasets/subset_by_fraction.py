"""A share of a dataset's labeled images."""

from mae_toolkit.datasets.image_dataset import check_count
from mae_toolkit.datasets.labeled_dataset import check_share, chosen
from mae_toolkit.errors import UserError
from mae_toolkit.registry import DATASETS


@DATASETS.register_module()
class SubsetByFraction:
    """A share of the images of a dataset of MMEngine's kind, as MMDetection's and MMSegmentation's are.

    Which images these are follows from the seed alone, which is not that of the run, so that runs of different seeds
    see the same images; a larger share holds the smaller ones. What the dataset filters out is not counted. The others
    are gone from the dataset within, so that whoever looks into it sees the share, too. In a config::

        dataset=dict(type='mae_toolkit.SubsetByFraction', share=0.1, dataset=dict(type='CocoDataset', ...))

    Args:
        dataset (dict | BaseDataset): The dataset; one that is built already loses its other images.
        share (float): Of its images, rounded; one at least.
        seed (int): Of the choice.

    Attributes:
        dataset (BaseDataset): What was left.

    Raises:
        UserError: If the share is none, or the dataset cannot be cut.
    """

    seed_of_run = False  # the runner gives others the seed of the run

    def __init__(self, dataset, share, seed=0):
        check_share('share', share)
        check_count('seed', seed, 0, 'the seed that chooses images')
        self.dataset = DATASETS.build(dataset) if isinstance(dataset, dict) else dataset
        if not hasattr(self.dataset, 'get_subset_'):
            raise UserError(
                f'SubsetByFraction cannot cut a {type(self.dataset).__name__}: put it around the dataset within; a '
                'LabeledDataset has labels=... itself.'
            )
        self.dataset.full_init()
        kept = chosen([0] * len(self.dataset), share, seed)
        self.dataset.get_subset_(kept.tolist())

    @property
    def metainfo(self):
        """Of the dataset."""
        return self.dataset.metainfo

    def full_init(self):
        """Nothing: it was done at construction."""

    def get_data_info(self, idx):
        """What is known of an image before it is read."""
        return self.dataset.get_data_info(idx)

    def get_cat_ids(self, idx):
        """Classes of the objects of an image."""
        return self.dataset.get_cat_ids(idx)

    def __getitem__(self, idx):
        """An image, through the dataset's pipeline."""
        return self.dataset[idx]

    def __len__(self):
        """Images of the share."""
        return len(self.dataset)
