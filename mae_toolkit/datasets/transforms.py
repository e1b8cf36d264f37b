"""Transforms of images (H, W, C) in their own type, each with the random numbers that it is given.

Bytes stay bytes: nothing becomes a float before it is on the device.
"""

import math
from math import ceil

import numpy as np
import torch
from torch.nn.functional import interpolate

from mae_toolkit.arguments import Number
from mae_toolkit.datasets.image_io import decode
from mae_toolkit.errors import UserError
from mae_toolkit.registry import TRANSFORMS

MODES = ('bilinear', 'bicubic')


class Transform:
    """A function of an image and random numbers; the first of a pipeline also decodes the file."""

    def __call__(self, image, rng):
        """(H, W, C) ndarray and ``np.random.Generator`` -> (H', W', C) ndarray of the same type."""
        raise NotImplementedError

    def load(self, file, rng):
        """Decode an :class:`ImageFile` and transform it; one that shrinks may ask for less than all pixels."""
        return self(decode(file), rng)


@TRANSFORMS.register_module()
class RandomResizedCrop(Transform):
    """Cut out a random rectangle and resize it (Inception, arXiv:1409.4842, section 6; as torchvision draws it).

    Args:
        size (int | tuple[int, int]): Pixels of the result, height and width.
        scale (tuple[float, float]): Share of the area.
        ratio (tuple[float, float]): Width over height.
        interpolation (str): 'bicubic' or 'bilinear', with antialiasing.
    """

    def __init__(self, size, scale=(0.2, 1.0), ratio=(3 / 4, 4 / 3), interpolation='bicubic'):
        self.size, self.interpolation = pair(size), _mode(interpolation)
        check_range('RandomResizedCrop: scale', scale, Number(0, 1, above=True))  # a share of the area
        check_range('RandomResizedCrop: ratio', ratio, Number(0, above=True))
        self.scale, self.ratio = scale, ratio

    def __call__(self, image, rng):
        """Crop and resize."""
        return resize(cut(image, self.region(*image.shape[:2], rng)), self.size, self.interpolation)

    def load(self, file, rng):
        """Decide on the rectangle first, and decode no more pixels than it needs."""
        height, width = file.size
        top, left, h, w = self.region(height, width, rng)
        least = ceil(height * self.size[0] / h), ceil(width * self.size[1] / w)
        image = decode(file, least)
        y, x = image.shape[0] / height, image.shape[1] / width
        region = round(top * y), round(left * x), max(1, round(h * y)), max(1, round(w * x))
        return resize(cut(image, region), self.size, self.interpolation)

    def region(self, height, width, rng):
        """Top, left, height and width of a rectangle in an image."""
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = height * width * rng.uniform(*self.scale)
            aspect = math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if 0 < h <= height and 0 < w <= width:
                return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1])
        h, w = min(height, round(width / aspect)), min(width, round(height * aspect))
        return (height - h) // 2, (width - w) // 2, max(1, h), max(1, w)


@TRANSFORMS.register_module()
class Resize(Transform):
    """Resize to a size, or so that the shorter side has so many pixels.

    Args:
        size (int | tuple[int, int]): Pixels of the shorter side, or height and width.
        interpolation (str): 'bicubic' or 'bilinear', with antialiasing.
    """

    def __init__(self, size, interpolation='bicubic'):
        sides = pair(size)  # refuses what is no size
        self.size, self.interpolation = size if isinstance(size, int) else sides, _mode(interpolation)

    @property
    def depends_on_shape(self) -> bool:
        """Whether the size of the result follows from the image's: a thin image may become very long."""
        return isinstance(self.size, int)

    def __call__(self, image, rng):
        """Resize."""
        return resize(image, self.target(*image.shape[:2]), self.interpolation)

    def load(self, file, rng):
        """Decode no more pixels than are needed."""
        target = self.target(*file.size)
        return resize(decode(file, target), target, self.interpolation)

    def target(self, height, width):
        """Height and width of the result."""
        if not self.depends_on_shape:
            return self.size
        factor = self.size / min(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))


@TRANSFORMS.register_module()
class CenterCrop(Transform):
    """Cut out the middle; a smaller image is mirrored at its borders first.

    Args:
        size (int | tuple[int, int]): Pixels, height and width.
    """

    def __init__(self, size):
        self.size = pair(size)

    def __call__(self, image, rng):
        """Cut."""
        image = grow(image, self.size)
        return cut(image, (*self.corner(image.shape[:2], rng), *self.size))

    def corner(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
        """Choose the top and left of the region, in an image that is no smaller."""
        top, left = ((have - want) // 2 for have, want in zip(size, self.size, strict=True))
        return top, left


@TRANSFORMS.register_module()
class RandomCrop(Transform):
    """Cut out a random place, without resizing; a smaller image is mirrored at its borders first.

    Args:
        size (int | tuple[int, int]): Pixels, height and width.
    """

    def __init__(self, size):
        self.size = pair(size)

    def __call__(self, image, rng):
        """Cut."""
        image = grow(image, self.size)
        return cut(image, (*self.corner(image.shape[:2], rng), *self.size))

    def corner(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
        """Choose the top and left of the region, in an image that is no smaller."""
        top, left = (int(rng.integers(have - want + 1)) for have, want in zip(size, self.size, strict=True))
        return top, left


@TRANSFORMS.register_module()
class RandomFlip(Transform):
    """Mirror an image at times.

    Args:
        prob (float): Probability of each direction.
        direction (str | list[str]): 'horizontal', 'vertical', or both.
    """

    AXES = {'vertical': 0, 'horizontal': 1}

    def __init__(self, prob=0.5, direction='horizontal'):
        if not 0 <= prob <= 1:
            raise UserError(f'RandomFlip: prob={prob} is a probability, from 0 to 1.')
        directions = [direction] if isinstance(direction, str) else list(direction)
        for name in directions:
            if name not in self.AXES:
                raise UserError(f'RandomFlip: direction {name!r} is neither horizontal nor vertical.')
        self.prob, self.axes = prob, [self.AXES[name] for name in directions]

    def __call__(self, image, rng):
        """Mirror each direction or not."""
        for axis in self.axes:
            if rng.random() < self.prob:
                image = _mirror(image, axis)
        return image


@TRANSFORMS.register_module()
class PadToMultiple(Transform):
    """Mirror the lower and right borders until a number divides height and width.

    Args:
        divisor (int): The number, such as the mask unit.
    """

    def __init__(self, divisor):
        if divisor < 1:
            raise UserError(f'PadToMultiple: divisor={divisor} is a number of pixels, 1 or more.')
        self.divisor = divisor

    def __call__(self, image, rng):
        """Pad."""
        size = tuple(ceil(n / self.divisor) * self.divisor for n in image.shape[:2])
        padding = [(0, want - have) for have, want in zip(image.shape, size, strict=False)]
        return np.pad(image, [*padding, (0, 0)], mode='symmetric')


def check_range(name, limits, rule):
    """Refuse what is not (least, most), both of the range of a rule."""
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        raise UserError(f'{name}={limits!r} has to be two numbers, (least, most).')
    for limit in limits:
        if not rule.accepts(limit):
            raise UserError(f'{name}={tuple(limits)} is (least, most), and each has to be {rule.describe()}.')
    if limits[0] > limits[1]:
        raise UserError(f'{name}={tuple(limits)} has the least above the most: exchange them.')


def pair(size):
    """A number as a square, or height and width as they are."""
    sizes = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, list | tuple) else ()
    if len(sizes) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes):
        raise UserError(f'size={size!r} is neither a number of pixels nor (height, width).')
    return sizes


def resize(image, size, interpolation):
    """Resize (H, W, C) to ``size``, with antialiasing, in the image's own type."""
    if image.shape[:2] == tuple(size):
        return image
    kept = image.dtype
    x = torch.from_numpy(_positive(image) if kept == np.uint8 else image.astype(np.float32))
    x = x.permute(2, 0, 1)[None]  # (1, C, H, W); bytes keep their channels last, which has the fast kernel
    x = interpolate(x, size=tuple(size), mode=interpolation, antialias=True)[0].permute(1, 2, 0).numpy()
    return x if x.dtype == kept else x.round().clip(0, 65535).astype(kept) if kept == np.uint16 else x.astype(kept)


def grow(image, size):
    """Mirror all borders of an image (H, W, C) until it is at least of a size."""
    missing = [max(0, want - have) for have, want in zip(image.shape, size, strict=False)]
    if not any(missing):
        return image
    return np.pad(image, [*((n // 2, n - n // 2) for n in missing), (0, 0)], mode='symmetric')


def cut(image, region):
    """The part of an image (H, W, C) at (top, left, height, width)."""
    top, left, h, w = region
    top, left = min(top, image.shape[0] - 1), min(left, image.shape[1] - 1)
    return image[top : top + h, left : left + w]


def _mirror(image, axis):
    """``np.flip`` into new memory, by torch, which does it much faster."""
    numbers = image.view(np.int16) if image.dtype == np.uint16 else image  # not every torch mirrors uint16
    x = torch.from_numpy(_positive(numbers)).permute(2, 0, 1)  # resized images lie in memory as (C, H, W)
    return x.flip(axis + 1).permute(1, 2, 0).numpy().view(image.dtype)


def _positive(image):
    """torch cannot look at an array backwards."""
    return image if min(image.strides) >= 0 else np.ascontiguousarray(image)


def _mode(interpolation):
    if interpolation not in MODES:
        raise UserError(f'interpolation={interpolation!r} is none of {", ".join(MODES)}.')
    return interpolation
