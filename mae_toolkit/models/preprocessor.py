"""Normalization on the device."""

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseDataPreprocessor
from torch import Tensor

from mae_toolkit.arguments import Number, check_value
from mae_toolkit.errors import UserError
from mae_toolkit.models.mask_ops import check_batch
from mae_toolkit.pixel_units import find_wrong_units
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """Preprocessor that moves a batch to the device in the type of the files, and normalizes it there.

    Args:
        mean: Mean of each channel, in the units of the files (0 to 255 for bytes).
        std: Standard deviation of each channel, in the same units.

    Raises:
        UserError: If there are not as many means as deviations, or the first images show that they are in other units.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, mean: Sequence[float] = (123.675, 116.28, 103.53), std: Sequence[float] = (58.395, 57.12, 57.375)
    ) -> None:
        super().__init__(non_blocking=True)
        given = dict(mean=mean, std=std)
        for name, values in given.items():
            if not isinstance(values, list | tuple) or not values:
                raise UserError(f'data_preprocessor.{name}={values!r} must be a list of one number per channel.')
            check_value(f'data_preprocessor.{name}', values, Number(many=True))
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise UserError(f'{len(mean)} means and {len(std)} deviations: give one of each per channel, std above 0.')
        self._compared = False  # whether mean and std were compared with the first images
        # Not in checkpoints: they belong to the data, and a checkpoint of other data must load. Never on the meta
        # device, as other parts read the numbers while a model is built.
        for name, values in given.items():
            tensor = torch.tensor(values, dtype=torch.float32, device='cpu').view(-1, 1, 1)
            self.register_buffer(name, tensor, persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Tensor]:
        """Normalize a batch.

        Args:
            data: A dict with ``imgs`` (B, C, H, W); ``mask`` and ``predict`` are passed on, other keys are left out.
            training: Makes no difference.

        Returns:
            ``imgs`` in float32 on the device, and ``mask`` and ``predict`` if they were there.

        Raises:
            UserError: If the images are no batch, or have other channels or other units than mean and std.
        """
        check_batch(data['imgs'])
        given = self.cast_data({key: data[key] for key in ('imgs', 'mask', 'predict') if key in data})
        imgs = given['imgs']
        if imgs.shape[1] != len(self.mean):
            raise UserError(
                f'The images have {imgs.shape[1]} channels, but the data_preprocessor has {len(self.mean)} values of '
                'mean and std: give one of each per channel.'
            )
        if not self._compared:
            self._compare_units(imgs)
        return given | {'imgs': (imgs.to(torch.float32) - self.mean) / self.std}

    def _compare_units(self, imgs: Tensor) -> None:
        """Refuse a mean and std in other units than the images."""
        if not imgs.numel() or imgs.is_meta:
            return
        mean, std = (values.flatten().tolist() for values in (self.mean, self.std))
        least, most = (float(value) for value in imgs.to(torch.float32).aminmax())
        self._compared = least < most  # images of one value show no units
        if imgs.is_floating_point() or most > 2:  # bytes of 0, 1 and 2 are labels or very dark
            wrong = find_wrong_units(mean, std, least, most)
            if wrong:
                raise UserError(f'data_preprocessor: {wrong}')

    def denormalize(self, imgs: Tensor) -> Tensor:
        """Put normalized images (B, C, H, W) back into the units of the files."""
        return imgs * self.std + self.mean
