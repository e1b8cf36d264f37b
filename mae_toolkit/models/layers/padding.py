"""Padding of images whose sizes a stride does not divide."""

from collections.abc import Sequence

from torch import Tensor
from torch.nn.functional import pad


def pad_to_multiple(x: Tensor, n: int) -> Tensor:
    """Add zeros below and to the right of (B, C, H, W), until n divides both sides."""
    bottom, right = -x.shape[-2] % n, -x.shape[-1] % n
    return pad(x, (0, right, 0, bottom)) if bottom or right else x


def crop_map(x: Tensor, size: Sequence[int], stride: int) -> Tensor:
    """Cut out the part of a map (B, C, h, w) that belongs to an image of ``size`` pixels before it was padded."""
    return x[..., : -(-size[0] // stride), : -(-size[1] // stride)]
