"""Base class of the targets."""

from torch import nn


class Target(nn.Module):
    """Something about an image that is predicted; computed without gradient.

    Attributes:
        channels (int): Channels T.
        stride (int): Pixels t per position.
    """

    def forward(self, imgs):
        """(B, C, H, W) normalised images -> (B, T, H/t, W/t)."""
        raise NotImplementedError
