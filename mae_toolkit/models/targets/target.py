"""Base class of the targets."""

from collections.abc import Mapping
from typing import ClassVar

from torch import nn


class Target(nn.Module):
    """Something about an image that is predicted; computed without gradient.

    Attributes:
        channels (int): Channels T; of codes, how many there are.
        stride (int): Pixels t per position.
        kind (str): ``'picture'``: pixels in the units of the images, so that ``pixel_shuffle(target, t)`` is a picture;
            ``'patches'``: pixels in this order in other units; ``'vectors'``: other numbers; ``'codes'``: int64
            (B, 1, H/t, W/t) below ``channels``.
    """

    takes: ClassVar[Mapping[str, str]] = {}
    channels: int
    stride: int
    kind: str = 'vectors'

    def forward(self, imgs):
        """(B, C, H, W) normalized images -> (B, T, H/t, W/t)."""
        raise NotImplementedError
