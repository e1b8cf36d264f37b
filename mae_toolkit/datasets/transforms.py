"""Transforms of images (H, W, C) in the dtype of their files, with explicit random numbers.

Bytes stay bytes: nothing becomes a float before it is on the device.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from math import ceil

import numpy as np

from mae_toolkit.arguments import Number
from mae_toolkit.datasets.functional import crop, flip, pad_to_size, resize
from mae_toolkit.datasets.image_io import ImageFile, decode_image
from mae_toolkit.errors import UserError
from mae_toolkit.registry import TRANSFORMS

INTERPOLATIONS = ('bilinear', 'bicubic')


class Transform:
    """Base class of transforms: functions of an image and a random generator.

    The first transform of a pipeline also decodes the file, see :meth:`load`. A transform draws from ``rng`` alone, so
    that its result follows from the image and the generator::

        @TRANSFORMS.register_module()
        class Invert(Transform):
            def __call__(self, image, rng):
                return 255 - image
    """

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Transform an image (H, W, C) to (H', W', C) of the same dtype."""
        raise NotImplementedError

    def load(self, file: ImageFile, rng: np.random.Generator) -> np.ndarray:
        """Decode an opened image and transform it; a transform that shrinks may decode at a lower resolution."""
        return self(decode_image(file), rng)


@TRANSFORMS.register_module()
class RandomResizedCrop(Transform):
    """Crop of a random rectangle, which is resized (Inception, arXiv:1409.4842, section 6; sampled as in torchvision).

    Args:
        size: Height and width of the result in pixels, or one number for a square.
        scale: Least and greatest area of the rectangle, as fractions of the image's area.
        ratio: Least and greatest aspect ratio of the rectangle, width over height.
        interpolation: 'bicubic' or 'bilinear', with antialiasing.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        scale: Sequence[float] = (0.2, 1.0),
        ratio: Sequence[float] = (3 / 4, 4 / 3),
        interpolation: str = 'bicubic',
    ) -> None:
        self.size = parse_size(size)
        self.interpolation = check_interpolation('RandomResizedCrop', interpolation)
        check_range('RandomResizedCrop: scale', scale, Number(0, 1, above=True))
        check_range('RandomResizedCrop: ratio', ratio, Number(0, above=True))
        self.scale, self.ratio = scale, ratio

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Crop and resize an image."""
        return resize(
            crop(image, self.sample_region(image.shape[0], image.shape[1], rng)), self.size, self.interpolation
        )

    def load(self, file: ImageFile, rng: np.random.Generator) -> np.ndarray:
        """Sample the rectangle first, and decode no more pixels than it needs."""
        height, width = file.size
        top, left, h, w = self.sample_region(height, width, rng)
        min_size = ceil(height * self.size[0] / h), ceil(width * self.size[1] / w)
        image = decode_image(file, min_size)
        y, x = image.shape[0] / height, image.shape[1] / width
        region = round(top * y), round(left * x), max(1, round(h * y)), max(1, round(w * x))
        return resize(crop(image, region), self.size, self.interpolation)

    def sample_region(self, height: int, width: int, rng: np.random.Generator) -> tuple[int, int, int, int]:
        """Sample a rectangle in an image.

        Args:
            height: Height of the image.
            width: Width of the image.
            rng: Random numbers.

        Returns:
            Top, left, height and width. If none of ten rectangles fits into the image, it is the largest in its center
            whose aspect ratio is in range.
        """
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        for _ in range(10):
            area = height * width * rng.uniform(self.scale[0], self.scale[1])
            aspect = math.exp(rng.uniform(low, high))
            h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
            if 0 < h <= height and 0 < w <= width:
                return int(rng.integers(height - h + 1)), int(rng.integers(width - w + 1)), h, w
        aspect = min(max(width / height, self.ratio[0]), self.ratio[1])
        h, w = min(height, round(width / aspect)), min(width, round(height * aspect))
        return (height - h) // 2, (width - w) // 2, max(1, h), max(1, w)


@TRANSFORMS.register_module()
class Resize(Transform):
    """Resizing of an image to a height and width, or of its shorter side to a length.

    For example, ``Resize(256)`` makes 256 x 384 of 400 x 600, and ``Resize((256, 256))`` makes a square.

    Args:
        size: Pixels of the shorter side, with the aspect ratio kept; or height and width.
        interpolation: 'bicubic' or 'bilinear', with antialiasing.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(self, size: int | Sequence[int], interpolation: str = 'bicubic') -> None:
        height_and_width = parse_size(size)
        self.size = size if isinstance(size, int) else height_and_width
        self.interpolation = check_interpolation('Resize', interpolation)

    @property
    def keeps_aspect_ratio(self) -> bool:
        """Return whether ``size`` is that of the shorter side, so that a thin image may become very long."""
        return isinstance(self.size, int)

    def __call__(self, image: np.ndarray, rng: np.random.Generator | None = None) -> np.ndarray:
        """Resize an image, for which no random numbers are needed."""
        return resize(image, self.output_size(*image.shape[:2]), self.interpolation)

    def load(self, file: ImageFile, rng: np.random.Generator) -> np.ndarray:
        """Decode no more pixels than are needed, and resize them."""
        size = self.output_size(*file.size)
        return resize(decode_image(file, size), size, self.interpolation)

    def output_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the result for an image of a height and width."""
        if not isinstance(self.size, int):
            return self.size
        factor = self.size / min(height, width)
        return max(1, round(height * factor)), max(1, round(width * factor))


@TRANSFORMS.register_module()
class CenterCrop(Transform):
    """Crop of the center of an image; the borders of a smaller image are mirrored first.

    Args:
        size: Height and width of the result in pixels, or one number for a square.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = parse_size(size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Crop an image."""
        image = pad_to_size(image, self.size)
        return crop(image, (*self.choose_corner(image.shape[:2], rng), *self.size))

    def choose_corner(self, size: Sequence[int], rng: np.random.Generator) -> tuple[int, int]:
        """Choose top and left of the region in an image of a height and width that are not smaller than it."""
        top, left = ((have - want) // 2 for have, want in zip(size, self.size, strict=True))
        return top, left


@TRANSFORMS.register_module()
class RandomCrop(Transform):
    """Crop of a random region without resizing; the borders of a smaller image are mirrored first.

    Args:
        size: Height and width of the result in pixels, or one number for a square.
    """

    def __init__(self, size: int | Sequence[int]) -> None:
        self.size = parse_size(size)

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Crop an image."""
        image = pad_to_size(image, self.size)
        return crop(image, (*self.choose_corner(image.shape[:2], rng), *self.size))

    def choose_corner(self, size: Sequence[int], rng: np.random.Generator) -> tuple[int, int]:
        """Choose top and left of the region in an image of a height and width that are not smaller than it."""
        top, left = (int(rng.integers(have - want + 1)) for have, want in zip(size, self.size, strict=True))
        return top, left


@TRANSFORMS.register_module()
class RandomFlip(Transform):
    """Random flip of an image.

    Args:
        prob: Probability of a flip in each direction.
        direction: 'horizontal', 'vertical', or a list of both, which are drawn independently.

    Raises:
        UserError: If an argument is out of range.
    """

    AXES = {'vertical': 0, 'horizontal': 1}

    def __init__(self, prob: float = 0.5, direction: str | Sequence[str] = 'horizontal') -> None:
        if not 0 <= prob <= 1:
            raise UserError(f'RandomFlip: prob={prob} must be a probability, from 0 to 1.')
        directions = [direction] if isinstance(direction, str) else list(direction)
        for name in directions:
            if name not in self.AXES:
                raise UserError(f"RandomFlip: direction={name!r} must be 'horizontal' or 'vertical'.")
        self.prob, self.axes = prob, [self.AXES[name] for name in directions]

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Flip an image in each direction or not."""
        for axis in self.axes:
            if rng.random() < self.prob:
                image = flip(image, axis)
        return image


@TRANSFORMS.register_module()
class PadToMultiple(Transform):
    """Padding that mirrors the lower and right borders until height and width are multiples of a number.

    Args:
        divisor: The number, such as the stride of the encoder.

    Raises:
        UserError: If it is below 1.
    """

    def __init__(self, divisor: int) -> None:
        if divisor < 1:
            raise UserError(f'PadToMultiple: divisor={divisor} must be a number of pixels, 1 or more.')
        self.divisor = divisor

    def __call__(self, image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Pad an image."""
        size = tuple(ceil(n / self.divisor) * self.divisor for n in image.shape[:2])
        padding = [(0, want - have) for have, want in zip(image.shape, size, strict=False)]
        return np.pad(image, [*padding, (0, 0)], mode='symmetric')


def check_range(name: str, limits: object, rule: Number) -> None:
    """Refuse a value that is not a pair (least, greatest) of allowed numbers.

    Args:
        name: Name of the argument, with which the error begins.
        limits: The value of the argument.
        rule: The numbers that are allowed.

    Raises:
        UserError: With the value.
    """
    if not isinstance(limits, list | tuple) or len(limits) != 2:
        raise UserError(f'{name}={limits!r} must be two numbers, (least, greatest).')
    for limit in limits:
        if not rule.accepts(limit):
            raise UserError(f'{name}={tuple(limits)} is (least, greatest), and each must be {rule.describe()}.')
    if limits[0] > limits[1]:
        raise UserError(f'{name}={tuple(limits)} must be (least, greatest): swap the two numbers.')


def parse_size(size: object) -> tuple[int, int]:
    """Return height and width from a number, for a square, or from a pair: ``224`` is ``(224, 224)``.

    Raises:
        UserError: If it is neither, or not above 0.
    """
    sizes = (size, size) if isinstance(size, int) else tuple(size) if isinstance(size, list | tuple) else ()
    if len(sizes) != 2 or not all(isinstance(n, int) and not isinstance(n, bool) and n > 0 for n in sizes):
        raise UserError(f'size={size!r} must be a number of pixels or (height, width).')
    return sizes


def check_interpolation(transform: str, interpolation: str) -> str:
    """Return an interpolation, or refuse one that is not known.

    Args:
        transform: Name of the transform, with which the error begins.
        interpolation: The value of its argument.

    Raises:
        UserError: If it is neither 'bilinear' nor 'bicubic'.
    """
    if interpolation not in INTERPOLATIONS:
        raise UserError(f'{transform}: interpolation={interpolation!r} must be one of {", ".join(INTERPOLATIONS)}.')
    return interpolation
