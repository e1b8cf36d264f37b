"""Base class of the targets."""

from collections.abc import Mapping
from typing import ClassVar

from torch import Tensor, nn


class Target(nn.Module):
    """Base class of the targets, which compute without gradient what is predicted about an image.

    A subclass sets the attributes and writes :meth:`forward`. Its kind says what losses may do with it:

    - ``'picture'``: pixels in the units of the images, so that ``pixel_shuffle(target, stride)`` is a picture;
    - ``'patches'``: pixels in the same order in other units, such as pixels normalized per patch;
    - ``'vectors'``: any other numbers;
    - ``'codes'``: int64 (B, 1, H/t, W/t), each below ``channels``.

    Attributes:
        takes: Arguments of the constructor that come from the model, see :class:`~mae_toolkit.models.wiring.Wiring`.
        channels: Channels T; for codes, how many codes there are.
        stride: Pixels t per side of a position.
        kind: One of the kinds above.
    """

    takes: ClassVar[Mapping[str, str]] = {}
    channels: int
    stride: int
    kind: str = 'vectors'

    def forward(self, imgs: Tensor) -> Tensor:
        """Compute the target of normalized images: (B, C, H, W) -> (B, T, H/t, W/t)."""
        raise NotImplementedError
