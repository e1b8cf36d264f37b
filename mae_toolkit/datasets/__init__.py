"""Images in, tensors of the file's own type out."""

from mae_toolkit.datasets.collate import image_collate
from mae_toolkit.datasets.image_dataset import ImageDataset
from mae_toolkit.datasets.image_io import BrokenImage, open_image, read_image
from mae_toolkit.datasets.samplers import EpochSampler
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
    'BrokenImage',
    'CenterCrop',
    'EpochSampler',
    'ImageDataset',
    'PadToMultiple',
    'RandomCrop',
    'RandomFlip',
    'RandomResizedCrop',
    'Resize',
    'Transform',
    'image_collate',
    'open_image',
    'read_image',
]
