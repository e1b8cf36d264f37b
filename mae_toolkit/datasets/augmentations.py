"""Augmentations of labeled images that others have written: timm's RandAugment, torchvision's TrivialAugment."""

from math import prod

import numpy as np
import torch
from PIL import Image
from timm.data.auto_augment import rand_augment_transform
from torchvision.transforms import InterpolationMode, TrivialAugmentWide
from torchvision.transforms import functional as F

from mae_toolkit.datasets.transforms import Transform
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.randomness import seeded
from mae_toolkit.registry import TRANSFORMS

FILL = (124, 116, 104)  # ImageNet's mean color, for what a rotation or a shift uncovers
RESAMPLING = {'bicubic': Image.Resampling.BICUBIC, 'bilinear': Image.Resampling.BILINEAR}


@TRANSFORMS.register_module()
class RandAugment(Transform):
    """timm's RandAugment (arXiv:1909.13719) on an image (H, W, C) of bytes, gray or color.

    Args:
        policy (str): timm's text, such as ``'rand-m9-mstd0.5-inc1'``: magnitude 9, its deviation 0.5, and operations
            whose severity rises with it.
        fill (tuple[int, ...]): Color of what is uncovered; its mean for gray images.
        interpolation (str): 'bicubic' or 'bilinear'.

    Raises:
        UserError: If timm does not know the policy, or an image is not of bytes.
    """

    def __init__(self, policy='rand-m9-mstd0.5-inc1', fill=FILL, interpolation='bicubic'):
        if not isinstance(policy, str) or not policy.startswith('rand-'):
            raise UserError(f"RandAugment: policy={policy!r} is no text of timm's such as 'rand-m9-mstd0.5-inc1'.")
        if interpolation not in RESAMPLING:
            raise UserError(f'RandAugment: interpolation={interpolation!r} is none of {", ".join(RESAMPLING)}.')
        resampling = RESAMPLING[interpolation]
        with wrap_build_error('RandAugment'):
            self.color, self.gray = (
                rand_augment_transform(policy, {'img_mean': mean, 'interpolation': resampling})
                for mean in (tuple(fill), round(sum(fill) / len(fill)))
            )

    def __call__(self, image, rng):
        """Augment, with Python's and NumPy's generators seeded from ``rng``."""
        augment = self.gray if image.shape[2] == 1 else self.color
        with seeded(int(rng.integers(2**32))):
            return to_array(augment(to_pillow(image, 'RandAugment')))


@TRANSFORMS.register_module()
class TrivialAugment(Transform):
    """torchvision's TrivialAugment, the wide space (arXiv:2103.10158): one operation of any strength.

    Args:
        interpolation (str): 'bicubic' or 'bilinear'.
    """

    def __init__(self, interpolation='bicubic'):
        if interpolation not in RESAMPLING:
            raise UserError(f'TrivialAugment: interpolation={interpolation!r} is none of {", ".join(RESAMPLING)}.')
        self.augment = TrivialAugmentWide(interpolation=InterpolationMode(interpolation))

    def __call__(self, image, rng):
        """Augment, with torch's generator of the CPU seeded from ``rng`` meanwhile."""
        with torch.random.fork_rng([]):
            torch.manual_seed(int(rng.integers(2**63)))
            return to_array(self.augment(to_pillow(image, 'TrivialAugment')))


@TRANSFORMS.register_module()
class ColorJitter(Transform):
    """Brightness, contrast and saturation by a factor of 1 - x to 1 + x each, in any order, as torchvision draws them.

    Args:
        brightness (float), contrast (float), saturation (float): Each x, from 0 (none) to 1.

    Raises:
        UserError: If one is out of range, or an image is not of bytes.
    """

    def __init__(self, brightness=0.4, contrast=0.4, saturation=0.4):
        self.most = dict(brightness=brightness, contrast=contrast, saturation=saturation)
        for name, most in self.most.items():
            if not 0 <= most <= 1:
                raise UserError(f'ColorJitter: {name}={most} is from 0 to 1.')

    def __call__(self, image, rng):
        """Change the colors."""
        picture = to_pillow(image, 'ColorJitter')
        for name in rng.permutation(list(self.most)):
            factor = rng.uniform(1 - self.most[name], 1 + self.most[name])
            picture = getattr(F, f'adjust_{name}')(picture, factor)
        return to_array(picture)


def to_pillow(image, what):
    """An image (H, W, C) of bytes as Pillow has it.

    Raises:
        UserError: If it is of another type, or neither gray nor color.
    """
    if image.dtype != np.uint8 or image.shape[2] not in (1, 3) or not prod(image.shape):
        raise UserError(
            f'{what} changes images of bytes with 1 or 3 channels, not {image.dtype} with {image.shape[2]}: leave it '
            'out for these images.'
        )
    return Image.fromarray(np.ascontiguousarray(image[..., 0] if image.shape[2] == 1 else image))


def to_array(picture):
    """A picture of Pillow's as (H, W, C)."""
    image = np.asarray(picture)
    return image[..., None] if image.ndim == 2 else image
