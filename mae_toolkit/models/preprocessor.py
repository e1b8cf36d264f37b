"""Normalization on the device."""

import torch
from mmengine.model import BaseDataPreprocessor

from mae_toolkit.arguments import Number, check_value
from mae_toolkit.errors import UserError
from mae_toolkit.pixel_units import find_wrong_units
from mae_toolkit.registry import MODELS


@MODELS.register_module()
class ImagePreprocessor(BaseDataPreprocessor):
    """Moves a batch to the device in the type of the files and normalizes it there.

    Args:
        mean (list[float]), std (list[float]): Per channel, in the units of the files (0 to 255 for bytes).

    Raises:
        UserError: If there are not as many means as deviations, or the first images show that they are in other units.
    """

    def __init__(self, mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375)):
        super().__init__(non_blocking=True)
        given = dict(mean=mean, std=std)
        for name, values in given.items():
            if not isinstance(values, list | tuple) or not values:
                raise UserError(f'data_preprocessor.{name}={values!r} has to be a list of one number per channel.')
            check_value(f'data_preprocessor.{name}', values, Number(many=True))
        if len(mean) != len(std) or not all(s > 0 for s in std):
            raise UserError(f'{len(mean)} means and {len(std)} deviations: give one of each per channel, std above 0.')
        self._compared = False  # mean and std with the first images
        # Not in checkpoints: they belong to the data, and a checkpoint of other data must load. Never on the meta
        # device, as other parts read the numbers while a model is built.
        for name, values in (('mean', mean), ('std', std)):
            values = torch.tensor(values, dtype=torch.float32, device='cpu').view(-1, 1, 1)
            self.register_buffer(name, values, persistent=False)

    def forward(self, data, training=False):
        """Normalize.

        Args:
            data (dict): With ``imgs`` (B, C, H, W); ``mask`` and ``predict`` are passed on, other keys are not.
            training (bool): Makes no difference.

        Returns:
            dict: ``imgs`` in float32 on the device, and ``mask`` and ``predict`` if they were there.
        """
        given = self.cast_data({key: data[key] for key in ('imgs', 'mask', 'predict') if key in data})
        imgs = given['imgs']
        if imgs.shape[1] != len(self.mean):
            raise UserError(
                f'The images have {imgs.shape[1]} channels, but the data_preprocessor {len(self.mean)} values of mean '
                'and std: give one of each per channel.'
            )
        if not self._compared:
            self._compare_units(imgs)
        return given | {'imgs': (imgs.to(torch.float32) - self.mean) / self.std}

    def _compare_units(self, imgs):
        """Refuse a mean and std in other units than the images."""
        if not imgs.numel() or imgs.is_meta:
            return
        mean, std = (values.flatten().tolist() for values in (self.mean, self.std))
        least, most = (float(value) for value in imgs.to(torch.float32).aminmax())
        self._compared = least < most  # black images say nothing
        if imgs.is_floating_point() or most > 2:  # bytes of 0, 1 and 2 are labels or very dark
            wrong = find_wrong_units(mean, std, least, most)
            if wrong:
                raise UserError(f'data_preprocessor: {wrong}')

    def denormalize(self, imgs):
        """Normalized images (B, C, H, W) back in the units of the files."""
        return imgs * self.std + self.mean
