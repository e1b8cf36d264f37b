"""Batches of labeled images: normalization, random erasing, mixup and cutmix, on the device."""

from typing import Any

import torch
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor

from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.models.preprocessor import ImagePreprocessor
from mae_toolkit.randomness import seeded
from mae_toolkit.registry import MODELS, refuse_unknown


@MODELS.register_module()
class ClassificationPreprocessor(ImagePreprocessor):
    """Normalization and, in training, random erasing and mixing of a batch, in the way and order of timm.

    The random numbers come from torch's generator, so that ``IterationSeedHook`` makes them the same after a resume.
    The generators of Python and NumPy are left as they were.

    Args:
        num_classes: Number of classes, which comes from the :class:`Classifier`.
        random_erasing: Probability that a rectangle of an image is replaced by noise (arXiv:1708.04896).
        mixup: Arguments of ``timm.data.Mixup``: ``mixup_alpha`` (arXiv:1710.09412), ``cutmix_alpha``
            (arXiv:1905.04899), ``prob``, ``switch_prob``, ``mode``. Label smoothing is set in the classifier.
        **kwargs: ``mean`` and ``std``, see :class:`ImagePreprocessor`.

    Raises:
        UserError: If an argument is not one of timm's, or a label or a batch does not fit.
    """

    def __init__(
        self, num_classes: int, random_erasing: float = 0.0, mixup: dict[str, Any] | None = None, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if not 0 <= random_erasing <= 1:
            raise UserError(f'random_erasing={random_erasing} must be a probability, from 0 to 1.')
        if mixup and not (mixup.get('mixup_alpha', 1.0) or mixup.get('cutmix_alpha') or mixup.get('cutmix_minmax')):
            raise UserError('mixup has mixup_alpha=0 and no cutmix: set mixup=None, or one of them above 0.')
        if mixup and 'label_smoothing' in mixup:
            raise UserError('mixup.label_smoothing belongs to the Classifier, under the same name: set it there.')
        self.num_classes, self.random_erasing = num_classes, random_erasing
        refuse_unknown(Mixup, mixup or {})
        with wrap_build_error(f'mixup={mixup}'):
            self.mixup = Mixup(num_classes=num_classes, label_smoothing=0.0, **mixup) if mixup else None

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Tensor]:
        """Normalize, erase and mix a batch.

        Args:
            data: A dict with ``imgs`` (B, C, H, W) and, unless they are only to be classified, ``labels`` (B,) int64.
            training: Whether to erase and mix.

        Returns:
            ``imgs`` in float32 on the device, and ``labels``: (B,), or the probabilities of the classes (B, K) where
            images were mixed.
        """
        given = super().forward(data, training)
        if 'labels' not in data:
            return given
        self._check_labels(data)
        labels, imgs = self.cast_data(data['labels']), given['imgs']
        if not training or not (self.random_erasing or self.mixup):
            return given | {'labels': labels}
        with seeded(int(torch.randint(2**31, ()))):
            if self.random_erasing:
                imgs = RandomErasing(self.random_erasing, mode='pixel', device=imgs.device)(imgs)
            if self.mixup:
                imgs, labels = self.mixup(imgs, labels)
        return given | {'imgs': imgs, 'labels': labels}

    def _check_labels(self, data: dict[str, Any]) -> None:
        """Refuse labels that would fail deep in timm or on the device, while they are still on the CPU."""
        labels = data['labels']
        if labels.device.type == 'cpu' and len(labels) and int(labels.max()) >= self.num_classes:
            raise UserError(
                f'An image has the class {int(labels.max())}, but the model has num_classes={self.num_classes}, 0 to '
                f'{self.num_classes - 1}: set num_classes to the number of classes of the data.'
            )
        if self.mixup and len(labels) % 2 and self.training:
            raise UserError(
                f'A batch of {len(labels)} images cannot be mixed in pairs: set an even batch_size and drop_last=True.'
            )
