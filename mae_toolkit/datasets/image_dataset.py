"""Images without labels."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch.utils.data import Dataset

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.image_io import BrokenImageError, ImageFile, decode_image, open_image
from mae_toolkit.datasets.image_limits import MAX_BYTES, MAX_PIXELS, ImageLimits, ImageTooLargeError, is_out_of_memory
from mae_toolkit.datasets.thin_images import check_output_size, resize_and_crop, should_crop_first
from mae_toolkit.datasets.transforms import Transform
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count
from mae_toolkit.registry import DATASETS, TRANSFORMS

T = TypeVar('T')


@DATASETS.register_module()
class ImageDataset(Dataset):
    """Images of a folder tree, a list, or the layouts of COCO and ImageNet, in the dtype of their files.

    An item depends on the seed, the epoch and the index alone: not on workers, processes or a resumption.

    Args:
        data_root: Folder of the images.
        pipeline: Transforms or their configs, in order.
        ann_file: List of images or annotation file; see :func:`list_images`.
        layout: Layout of the files; see :func:`list_images`.
        split: Folder of the images within ``data_root``; see :func:`list_images`.
        channels: Number of channels of the images. Gray is repeated to color, color is averaged to gray, and an alpha
            channel is dropped.
        hold_out: Leave out every n-th image for validation, the first one included; -n takes only those. For example,
            10 in training and -10 in validation.
        repeat: Number of passes over the images in an epoch, each with other random numbers.
        seed: Seed of the random numbers.
        max_tries: Maximum number of images that are tried in place of a broken one.
        max_pixels: Pixels of the largest image that is decoded; a larger one, by its header, counts as broken.
        max_bytes: Bytes of the largest file, and of the largest decoded image.

    Attributes:
        names: Paths of the images relative to ``data_root``.

    Raises:
        UserError: If an argument is out of range, or there are no images.
    """

    def __init__(
        self,
        data_root: str | Path,
        pipeline: Sequence[dict | Transform] = (),
        ann_file: str | Path | None = None,
        layout: str | None = None,
        split: str | Path | None = None,
        channels: int = 3,
        hold_out: int | None = None,
        repeat: int = 1,
        seed: int = 0,
        max_tries: int = 20,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        if not isinstance(data_root, str | Path):
            raise UserError(f'data_root={data_root!r} is not a path: write it as a string.')
        check_integer('repeat', repeat, 1, 'how often an epoch goes over the images')
        check_integer('channels', channels, 1, 'how many channels the images get')
        check_integer('max_tries', max_tries, 0, 'how many images are tried in place of a broken one')
        check_integer('seed', seed, 0, 'the seed of the augmentation')
        self.root, self.channels, self.repeat = Path(data_root), channels, repeat
        self.seed, self.max_tries = seed, max_tries
        self.limits = ImageLimits(max_pixels, max_bytes)
        names = self._list_images(data_root, ann_file, layout, split)
        self.names = PathList(apply_hold_out(names, hold_out))
        self.transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]

    def __len__(self) -> int:
        """Return the number of items in an epoch, with repetitions."""
        return len(self.names) * self.repeat

    def __getitem__(self, key: tuple[int, int] | int) -> dict[str, Any]:
        """Load an image.

        Args:
            key: Epoch and index, or an index of epoch 0.

        Returns:
            ``img`` (C, H, W), uint8, uint16 or float32; ``name``; and ``broken``, the (name, reason) of the images
            that could not be read and that this one replaces.

        Raises:
            UserError: If no image can be read, or one has a number of channels that cannot be converted.
        """
        epoch, index = key if isinstance(key, tuple) else (0, key)
        if not 0 <= index < len(self):  # otherwise a plain loop over the dataset would never end
            raise IndexError(f'index {index} of {len(self)} images')
        rng = np.random.default_rng([self.seed, epoch, index])
        broken = []
        for attempt in range(min(self.max_tries + 1, len(self.names))):
            position = (index + attempt) % len(self.names)
            name = self.names[position]
            try:
                image = self._load(name, rng)
            except BrokenImageError as error:
                broken.append((name, error.reason))
                continue
            img = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (C, H, W)
            return {'img': img, 'name': name, 'broken': broken} | self._extra_fields(position)
        raise UserError(
            f'{len(broken)} images in a row could not be read, from {broken[0][0]} ({broken[0][1]}) to '
            f'{broken[-1][0]}: is {self.root} the right folder?'
        )

    def read(self, name: str) -> np.ndarray:
        """Read a whole image (H, W, C) by its name, with the dataset's number of channels and without transforms."""
        file = open_image(self.root / name, self.limits)
        return convert_channels(decode_image(file), self.channels, name, file.size)

    def _list_images(
        self, data_root: str | Path, ann_file: str | Path | None, layout: str | None, split: str | Path | None
    ) -> list[str]:
        """List the names of the images."""
        return list_images(data_root, ann_file, layout, split)

    def _extra_fields(self, position: int) -> dict[str, Any]:
        """Return what a subclass adds to the item of the image at a position among the names."""
        return {}

    def _load(self, name: str, rng: np.random.Generator) -> np.ndarray:
        return apply_pipeline(open_image(self.root / name, self.limits), self.transforms, self.channels, name, rng)


class PathList:
    """Many strings in two arrays, as a list of them would be copied into every worker process.

    Args:
        names: The strings. Undecodable bytes of file names, as surrogates, are kept.
    """

    def __init__(self, names: Sequence[str]) -> None:
        encoded = [name.encode('utf-8', 'surrogateescape') for name in names]
        self._bytes = np.frombuffer(b''.join(encoded), np.uint8)
        self._ends = np.cumsum([len(name) for name in encoded])

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        """Return one string."""
        start = self._ends[index - 1] if index else 0
        return self._bytes[start : self._ends[index]].tobytes().decode('utf-8', 'surrogateescape')


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


def check_integer(name: str, value: object, minimum: int, description: str) -> None:
    """Refuse an argument that is not a whole number, or is below a minimum.

    Args:
        name: Name of the argument, with which the error begins.
        value: The value of the argument.
        minimum: The least value that is accepted.
        description: What the argument means, such as ``'how many channels the images get'``.

    Raises:
        UserError: With the name, the value and the minimum.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise UserError(f'{name}={value!r} must be a whole number of at least {minimum}: {description}.')


def apply_hold_out(names: list[T], hold_out: int | None) -> list[T]:
    """Leave every n-th item out of a list, the first one included, or keep only those.

    For example, 3 leaves items 1, 2, 4 and 5 of items 0 to 6, and -3 leaves items 0, 3 and 6.

    Args:
        names: The items, such as names of images.
        hold_out: n to leave items out, -n to keep only those; None to keep all.

    Raises:
        UserError: If ``hold_out`` is 0 or not a whole number, or nothing is left.
    """
    if hold_out is None:
        return names
    if isinstance(hold_out, bool) or not isinstance(hold_out, int | np.integer) or hold_out == 0:
        raise UserError(
            f'hold_out={hold_out!r} must be None or a whole number other than 0: 10 leaves out every tenth image, and '
            '-10 takes only those.'
        )
    kept = [name for i, name in enumerate(names) if (i % abs(hold_out) == 0) == (hold_out < 0)]
    if not kept:
        raise UserError(
            f'hold_out={hold_out} leaves none of {format_count(len(names), "image")}: use another number, or more '
            'images.'
        )
    return kept
