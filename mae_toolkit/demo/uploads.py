"""Images that visitors of the page give: checked by their headers, read, and brought into the units of a model."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from mae_toolkit.datasets import BrokenImageError, ImageLimits, Resize
from mae_toolkit.datasets.image_headers import MISSING, read_image_header
from mae_toolkit.datasets.image_io import decode_image, open_image
from mae_toolkit.datasets.image_pipeline import convert_channels
from mae_toolkit.datasets.thin_images import check_output_size
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError

MOST_PIXELS = 1 << 25  # of an image: several visitors share the memory
MOST_BYTES = 1 << 26  # of a file
MOST_SEEN = 1 << 20  # pixels of an image that the model sees, if a square one of the size that is asked for has less
THINNEST = 4  # times as long as wide, up to which images of any size that is asked for are taken
STRETCHED = 'Its 16 bits were stretched to the 8 bits of the training, from its darkest to its brightest pixels.'


@dataclass(frozen=True, eq=False)
class GivenImage:
    """An image that a visitor has given.

    Attributes:
        path: Its file.
        name: What it is called.
        size: Height and width of the file.
        seen: (H, W, C), resized as the model sees it, in the units of the training.
        note: What was changed, for the visitor.
    """

    path: Path
    name: str
    size: tuple[int, int]
    seen: np.ndarray = field(repr=False)
    note: str = ''


class ImageReader:
    """Read images that visitors give, or refuse them in a sentence.

    Args:
        transform: That of the encoder: it knows the channels, the type and the size of the images of the training.
        limits: Largest image that is decoded.
        short_side: Pixels of the shorter side of what the model sees; as in the training if None.

    Raises:
        UserError: If images of such sides are larger than the limits.
    """

    def __init__(self, transform: EncoderTransform, limits: ImageLimits, short_side: int | None = None) -> None:
        self.transform, self.limits = transform, limits
        side = short_side or min(transform.preparation.size)
        if side**2 > limits.pixels:
            raise UserError(
                f'--size {side}: an image of {side:,} x {side:,} pixels is larger than the largest that is taken, of '
                f'{limits.pixels:,} pixels: choose a smaller size, or allow more by --max-pixels.'
            )
        self.resize, self.most_seen = Resize(side), max(MOST_SEEN, THINNEST * side**2)

    def open(self, path: str | Path) -> GivenImage:
        """Read an image.

        Args:
            path: Its file, of any format that trainings read.

        Raises:
            UserError: If it is no image, too large (by its header, before it is decoded), or of other channels or units
                than the model takes.
        """
        path = Path(path)
        array, note = self._read(path)
        try:
            check_output_size(self.resize, array.shape[:2], ImageLimits(self.most_seen))
        except ValueError as error:
            raise UserError(f'{path.name}: {error}: crop it to a shape that is less thin.') from None
        seen = self.resize(array, np.random.default_rng(0))
        return GivenImage(path, path.name, (array.shape[0], array.shape[1]), seen, note)

    def read(self, image: GivenImage) -> np.ndarray:
        """Read the file of an image again: (H, W, C) in the units of the training.

        Raises:
            UserError: If the file has been removed since.
        """
        return self._read(image.path)[0]

    def _read(self, path: Path) -> tuple[np.ndarray, str]:
        header = read_image_header(path, self.limits)
        if header.reason == MISSING:
            raise UserError(f'{path.name} has been removed from the server meanwhile: give it again.')
        if header.is_too_large:
            raise UserError(f'{path.name} is too large: {header.reason}.')
        if header.size is None:
            raise UserError(f'{path.name} cannot be read as an image: {_shorten(header.reason, path)}.')
        try:
            array = decode_image(open_image(path, self.limits))
        except BrokenImageError as error:
            raise UserError(f'{path.name} cannot be read as an image: {_shorten(error.reason, path)}.') from None
        array, note = self._to_units(array)
        array = self._to_channels(array, path.name)
        try:
            self.transform(array)
        except BrokenImageError as error:
            raise UserError(f'{path.name} cannot be used: {error.reason}.') from None
        except UserError as error:
            raise UserError(str(error).replace('the array', path.name)) from None
        return array, note

    def _to_units(self, array: np.ndarray) -> tuple[np.ndarray, str]:
        """Stretch 16 bits where the training has had 8; what else is of another type, the transform refuses."""
        if array.dtype != np.uint16 or self.transform.preparation.dtype != 'uint8':
            return array, ''
        low, high = int(array.min()), int(array.max())
        scale = 255 / max(high - low, 1)
        return ((array.astype(np.float32) - low) * scale).round().astype(np.uint8), STRETCHED

    def _to_channels(self, array: np.ndarray, name: str) -> np.ndarray:
        wanted = self.transform.preparation.channels
        try:
            return convert_channels(array, wanted, name)
        except UserError:
            raise UserError(f'{name} has {array.shape[2]} channels, and the model takes {wanted}.') from None


def _shorten(reason: str, path: Path) -> str:
    """Return a reason without the place of a file on the server."""
    return reason.replace(str(path), path.name).rstrip('.')
