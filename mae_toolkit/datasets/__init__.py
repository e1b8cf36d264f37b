"""Datasets, transforms and samplers: image files in, batches of tensors in the dtype of the files out."""

from mae_toolkit.datasets.augmentations import ColorJitter, RandAugment, TrivialAugment
from mae_toolkit.datasets.collate import image_collate
from mae_toolkit.datasets.image_dataset import ImageDataset
from mae_toolkit.datasets.image_io import BrokenImageError, open_image, read_image
from mae_toolkit.datasets.image_limits import ImageLimits
from mae_toolkit.datasets.labeled_dataset import LabeledDataset
from mae_toolkit.datasets.pipeline_dataset import PipelineDataset
from mae_toolkit.datasets.samplers import EpochSampler
from mae_toolkit.datasets.shards import ShardDataset, ShardSampler
from mae_toolkit.datasets.subset_by_fraction import SubsetByFraction
from mae_toolkit.datasets.transforms import (
    CenterCrop,
    PadToMultiple,
    RandomCrop,
    RandomFlip,
    RandomResizedCrop,
    Resize,
    Transform,
)

__all__ = [
    'BrokenImageError',
    'CenterCrop',
    'ColorJitter',
    'EpochSampler',
    'ImageDataset',
    'ImageLimits',
    'LabeledDataset',
    'PadToMultiple',
    'PipelineDataset',
    'RandAugment',
    'RandomCrop',
    'RandomFlip',
    'RandomResizedCrop',
    'Resize',
    'ShardDataset',
    'ShardSampler',
    'SubsetByFraction',
    'Transform',
    'TrivialAugment',
    'image_collate',
    'open_image',
    'read_image',
]
