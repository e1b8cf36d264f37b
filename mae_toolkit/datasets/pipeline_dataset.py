"""What datasets of images share: decoding, the pipeline, the seed, and replacing what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from mae_toolkit.datasets.image_io import BrokenImageError, ImageFile, decode_image
from mae_toolkit.datasets.image_limits import MAX_BYTES, MAX_PIXELS, ImageLimits
from mae_toolkit.datasets.image_pipeline import apply_pipeline, convert_channels
from mae_toolkit.datasets.item_arguments import check_integer
from mae_toolkit.datasets.transforms import Transform
from mae_toolkit.errors import UserError
from mae_toolkit.registry import TRANSFORMS


class PipelineDataset(Dataset):
    """Images at positions 0 to :meth:`count_images`, each opened by :meth:`open` and prepared by a pipeline.

    An item depends on the seed, the epoch and the index alone: not on workers, processes or a resumption. An image that
    cannot be read is replaced by the next one that can.

    Args:
        pipeline: Transforms or their configs, in order.
        channels: Number of channels of the images. Gray is repeated to color, color is averaged to gray, and an alpha
            channel is dropped.
        repeat: Number of passes over the images in an epoch, each with other random numbers.
        seed: Seed of the random numbers.
        max_tries: Maximum number of images that are tried in place of a broken one.
        max_pixels: Pixels of the largest image that is decoded; a larger one, by its header, counts as broken.
        max_bytes: Bytes of the largest file, and of the largest decoded image.

    Raises:
        UserError: If an argument is out of range.
    """

    def __init__(
        self,
        pipeline: Sequence[dict | Transform] = (),
        channels: int = 3,
        repeat: int = 1,
        seed: int = 0,
        max_tries: int = 20,
        max_pixels: int = MAX_PIXELS,
        max_bytes: int = MAX_BYTES,
    ) -> None:
        check_integer('repeat', repeat, 1, 'how often an epoch goes over the images')
        check_integer('channels', channels, 1, 'how many channels the images get')
        check_integer('max_tries', max_tries, 0, 'how many images are tried in place of a broken one')
        check_integer('seed', seed, 0, 'the seed of the augmentation')
        self.channels, self.repeat, self.seed, self.max_tries = channels, repeat, seed, max_tries
        self.limits = ImageLimits(max_pixels, max_bytes)
        self.transforms = [TRANSFORMS.build(t) if isinstance(t, dict) else t for t in pipeline]

    def count_images(self) -> int:
        """Return the number of images, each counted once."""
        raise NotImplementedError

    def name_image(self, position: int) -> str:
        """Return the name of an image, for logs and errors."""
        raise NotImplementedError

    def open(self, position: int) -> ImageFile:
        """Open an image.

        Raises:
            BrokenImageError: If it is missing, empty, too large or cannot be decoded.
        """
        raise NotImplementedError

    def describe_place(self) -> str:
        """Return where the images are, for errors."""
        raise NotImplementedError

    def __len__(self) -> int:
        """Return the number of items in an epoch, with repetitions."""
        return self.count_images() * self.repeat

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
        images = self.count_images()
        for attempt in range(min(self.max_tries + 1, images)):
            position = (index + attempt) % images
            try:
                file, name = self.open(position), self.name_image(position)
                image = apply_pipeline(file, self.transforms, self.channels, name, rng)
            except BrokenImageError as error:
                broken.append((self.name_image(position), error.reason))
                continue
            img = torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))  # (C, H, W)
            return {'img': img, 'name': name, 'broken': broken} | self._extra_fields(position)
        raise UserError(
            f'{len(broken)} images in a row could not be read, from {broken[0][0]} ({broken[0][1]}) to '
            f'{broken[-1][0]}: is {self.describe_place()}?'
        )

    def read_at(self, position: int) -> np.ndarray:
        """Read the whole image (H, W, C) at a position, with the dataset's number of channels, without transforms."""
        return self._decode(self.open(position), self.name_image(position))

    def _decode(self, file: ImageFile, name: str) -> np.ndarray:
        """Decode a whole image (H, W, C), with the dataset's number of channels and without transforms."""
        return convert_channels(decode_image(file), self.channels, name, file.size)

    def _extra_fields(self, position: int) -> dict[str, Any]:
        """Return what a subclass adds to the item of the image at a position."""
        return {}
