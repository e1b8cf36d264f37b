"""Decode an image and run the transforms of a pipeline on it."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

import numpy as np

from mae_toolkit.datasets.image_io import BrokenImageError, ImageFile, decode_image
from mae_toolkit.datasets.image_limits import ImageTooLargeError, is_out_of_memory
from mae_toolkit.datasets.thin_images import check_output_size, resize_and_crop, should_crop_first
from mae_toolkit.datasets.transforms import Transform
from mae_toolkit.errors import UserError


def apply_pipeline(
    file: ImageFile, transforms: Iterable[Transform], channels: int, name: str, rng: np.random.Generator
) -> np.ndarray:
    """Decode an opened image and run transforms on it.

    Args:
        file: The opened image.
        transforms: The pipeline, in order; the first transform decodes the file.
        channels: Number of channels of the result; see :class:`ImageDataset`.
        name: Name of the image, for errors.
        rng: Random numbers.

    Returns:
        (H, W, C) in the dtype of the file.

    Raises:
        BrokenImageError: If the image cannot be decoded, or there is too little memory for what the pipeline makes.
        UserError: If its channels cannot be converted.
    """
    try:
        return _apply_steps(file, list(transforms), channels, name, rng)
    except ImageTooLargeError as error:
        raise BrokenImageError(name, str(error)) from error
    except (MemoryError, RuntimeError) as error:
        if not is_out_of_memory(error):
            raise
        reason = f'there is not enough memory to prepare its {file.size[0]:,} x {file.size[1]:,} pixels'
        raise BrokenImageError(name, reason) from error


def _apply_steps(
    file: ImageFile, transforms: list[Transform], channels: int, name: str, rng: np.random.Generator
) -> np.ndarray:
    """Decode an image and run the steps of a pipeline; for thin images, a resize and the crop after it are one step."""
    if not transforms:
        return convert_channels(decode_image(file), channels, name, file.size)
    image: np.ndarray | None = None
    is_done = False
    for step, following in zip_longest(transforms, transforms[1:]):
        if is_done:
            is_done = False
            continue
        size = file.size if image is None else image.shape[:2]
        if should_crop_first(step, following, size):
            whole = decode_image(file) if image is None else image
            result, is_done = resize_and_crop(whole, step, following, rng), True
        else:
            check_output_size(step, size, file.limits)
            result = step.load(file, rng) if image is None else step(image, rng)
        image = convert_channels(result, channels, name, file.size) if image is None else result
    assert image is not None
    return image


def convert_channels(image: np.ndarray, channels: int, name: str, size: tuple[int, int] | None = None) -> np.ndarray:
    """Convert an image (H, W, C) to another number of channels.

    Gray is repeated to color, color is averaged to gray (ITU-R BT.601), and an alpha channel is dropped.

    Args:
        image: The image, or a part of it.
        channels: Number of channels of the result.
        name: Name of the image, for errors.
        size: Height and width of the whole image, by which an array saved as (C, H, W) is recognized.

    Raises:
        UserError: If the channels differ in another way, such as 5 where 3 are needed.
    """
    have = image.shape[2]
    if have == channels:
        return image
    if have in (2, 4) and channels in (1, 3):  # the last is alpha
        return convert_channels(image[..., :-1], channels, name, size)
    if have == 1 and channels == 3:
        return np.repeat(image, 3, axis=2)
    if have == 3 and channels == 1:
        gray = image @ np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
        gray = gray if image.dtype == np.float32 else gray.round()
        return gray.astype(image.dtype)[..., None]
    if size is not None and size[0] in {1, 2, 3, 4, channels} and have > 4:
        raise UserError(
            f'{name} has {have} channels, but the dataset expects channels={channels}: its shape '
            f'({size[0]}, {size[1]}, {have}) is read as {size[0]} rows, {size[1]} columns and {have} channels; if it '
            f'is meant as (C, H, W), {size[0]} channels of {size[1]} rows, save it as (H, W, C).'
        )
    raise UserError(
        f'{name} has {have} channels, but the dataset expects channels={channels}: set channels={have} there, '
        f'in_chans={have} in the encoder, and {have} values of mean and std.'
    )
