"""Augmentations of labeled images from other libraries: timm's RandAugment, torchvision's TrivialAugment and jitter."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torchvision.transforms import InterpolationMode, TrivialAugmentWide
from torchvision.transforms import functional as F

from mae_toolkit.datasets.transforms import Transform, check_interpolation
from mae_toolkit.errors import UserError
from mae_toolkit.randomness import seeded
from mae_toolkit.registry import TRANSFORMS

IMAGENET_MEAN = (124, 116, 104)  # color, for what a rotation or a shift uncovers
RESAMPLING = {'bicubic': Image.Resampling.BICUBIC, 'bilinear': Image.Resampling.BILINEAR}


@TRANSFORMS.register_module()
class RandAugment(Transform):
    """timm's RandAugment (arXiv:1909.13719) of a gray or color image (H, W, C) of bytes.

    Args:
        policy: timm's policy string. ``'rand-m9-mstd0.5-inc1'`` means magnitude 9 with a standard deviation of 0.5, and
            operations whose severity increases with the magnitude.
        fill: Color of uncovered pixels; gray images get its mean.
        interpolation: 'bicubic' or 'bilinear'.

    Raises:
        UserError: If timm does not know the policy, or an image is not of bytes.
    """

    def __init__(
        self,
        policy: str = 'rand-m9-mstd0.5-inc1',
        fill: Sequence[int] = IMAGENET_MEAN,
        interpolation: str = 'bicubic',
    ) -> None:
        if not isinstance(policy, str) or not policy.startswith('rand-'):
            raise UserError(f"RandAugment: policy={policy!r} must be a timm policy such as 'rand-m9-mstd0.5-inc1'.")
        resampling = RESAMPLING[check_interpolation('RandAugment', interpolation)]
        colors = tuple(fill), round(sum(fill) / len(fill))
        try:
            self.color, self.gray = (
                rand_augment_transform(policy, {'img_mean': mean, 'interpolation': resampling}) for mean in colors
            )
        except (AssertionError, ValueError) as error:
            raise UserError(f'RandAugment: policy={policy!r} is not a policy that timm can read ({error}).') from error

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment an image, with Python's and NumPy's global generators seeded from ``rng``."""
        augment = self.gray if image.shape[2] == 1 else self.color
        with seeded(int(rng.integers(2**32))):
            return from_pil(augment(to_pil(image, 'RandAugment')))


@TRANSFORMS.register_module()
class TrivialAugment(Transform):
    """torchvision's TrivialAugment, wide space (arXiv:2103.10158): one operation of a random strength.

    Args:
        interpolation: 'bicubic' or 'bilinear'.

    Raises:
        UserError: If the interpolation is unknown, or an image is not of bytes.
    """

    def __init__(self, interpolation: str = 'bicubic') -> None:
        check_interpolation('TrivialAugment', interpolation)
        self.augment = TrivialAugmentWide(interpolation=InterpolationMode(interpolation))

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Augment an image, with torch's CPU generator seeded from ``rng`` meanwhile."""
        with torch.random.fork_rng([]):
            torch.manual_seed(int(rng.integers(2**63)))
            return from_pil(self.augment(to_pil(image, 'TrivialAugment')))


@TRANSFORMS.register_module()
class ColorJitter(Transform):
    """Random changes of brightness, contrast and saturation of an image, in random order, as torchvision does.

    Each is multiplied by a factor between 1 - x and 1 + x.

    Args:
        brightness: x of the brightness, from 0 (no change) to 1.
        contrast: x of the contrast, from 0 to 1.
        saturation: x of the saturation, from 0 to 1.

    Raises:
        UserError: If one is out of range, or an image is not of bytes.
    """

    def __init__(self, brightness: float = 0.4, contrast: float = 0.4, saturation: float = 0.4) -> None:
        self.strengths = dict(brightness=brightness, contrast=contrast, saturation=saturation)
        for name, strength in self.strengths.items():
            if not 0 <= strength <= 1:
                raise UserError(f'ColorJitter: {name}={strength} must be between 0 and 1.')

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Change the colors of an image."""
        picture = to_pil(image, 'ColorJitter')
        for name in rng.permutation(list(self.strengths)):
            factor = rng.uniform(1 - self.strengths[name], 1 + self.strengths[name])
            picture = getattr(F, f'adjust_{name}')(picture, factor)
        return from_pil(picture)


def to_pil(image: np.ndarray, transform: str) -> Image.Image:
    """Convert an image (H, W, C) of bytes to Pillow's type.

    Args:
        image: Gray or color image.
        transform: Name of the transform that needs it, with which the error begins.

    Raises:
        UserError: If the image has another dtype, or is neither gray nor color.
    """
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3) or not prod(image.shape):
        raise UserError(
            f'{transform} needs images of bytes with 1 or 3 channels, not {image.dtype} with {image.shape[2]}: leave '
            'it out for these images.'
        )
    return Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))


def from_pil(picture: Image.Image) -> np.ndarray:
    """Convert a Pillow image to an array (H, W, C)."""
    image = np.asarray(picture)
    return image[..., None] if image.ndim == 2 else image
