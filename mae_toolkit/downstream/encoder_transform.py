"""The transform of an encoder: from an image of any kind to the tensor that the encoder was trained on."""

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.datasets import ImageLimits
from mae_toolkit.datasets.any_image import ImageLike, as_image_file, check_finite
from mae_toolkit.datasets.image_io import DecodedFile
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS
from mae_toolkit.datasets.image_pipeline import apply_pipeline
from mae_toolkit.errors import UserError
from mae_toolkit.export.preparation import Preparation
from mae_toolkit.pixel_units import find_wrong_units


class EncoderTransform:
    """Prepare an image as in the training of an encoder: size, channels and normalization.

    Example::

        encoder, transform = load_encoder('runs/photos')
        imgs = torch.stack([transform(path) for path in paths])

    Args:
        preparation: Sizes and normalization.
        limits: Largest image that is decoded.
    """

    def __init__(self, preparation: Preparation, limits: ImageLimits = DEFAULT_LIMITS) -> None:
        self.preparation, self.limits = preparation, limits
        self._steps = preparation.transforms()

    def __call__(self, image: ImageLike, resize: bool = True) -> Tensor:
        """Prepare an image.

        Args:
            image: A path, a picture of Pillow, or an array (H, W) or (H, W, C) in the units of the files of the
                training, with red first.
            resize: Resize and crop it to the size of the training; an encoder takes other sizes, too.

        Returns:
            (C, H, W) float32.

        Raises:
            BrokenImageError: If a file cannot be read.
            UserError: If the image has other channels, or numbers of another type or range, than in the training.
        """
        file = as_image_file(image, self.limits)
        name, steps = str(file.path), self._steps if resize else []
        array = apply_pipeline(file, steps, self.preparation.channels, name, np.random.default_rng(0))
        check_finite(array, name)
        # Before it is resized, as cubic interpolation leaves the range of the values.
        self._check_units(file.decode() if isinstance(file, DecodedFile) else array, name)
        mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (self.preparation.mean, self.preparation.std))
        pixels = torch.from_numpy(np.ascontiguousarray(array.transpose(2, 0, 1)))
        return (pixels.to(torch.float32) - mean) / std

    def __repr__(self) -> str:
        """Say what the transform does."""
        return f'{type(self).__name__}({self.preparation})'

    def _check_units(self, array: np.ndarray, name: str) -> None:
        """Refuse an image whose numbers are of another type or range than those of the training."""
        expected = self.preparation.dtype
        if array.dtype.kind == 'f':
            wrong = find_wrong_units(self.preparation.mean, self.preparation.std, array.min(), array.max())
            if wrong:
                raise UserError(f'{name}: {wrong}')
        elif expected is not None and array.dtype != expected and array.size:
            raise UserError(
                f'{name} holds numbers of {array.dtype}, and the encoder was trained on {expected}: convert the image.'
            )
