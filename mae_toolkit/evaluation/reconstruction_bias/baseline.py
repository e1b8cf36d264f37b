"""What can be guessed about hidden parts of an image without a model."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate


def interpolate_visible(x: Tensor, hidden: Tensor) -> Tensor:
    """Fill the hidden positions of a map with a smooth continuation of the visible ones around.

    The map is averaged over the visible ones of each 2 x 2 positions until none is hidden, and filled on the way back
    (the pull-push algorithm of Gortler et al., The Lumigraph, SIGGRAPH 1996, section 3.4.1).

    Args:
        x: (B, C, H, W); what is hidden has no influence.
        hidden: (B, 1, H, W) bool, True where hidden; something is visible in each map.

    Returns:
        (B, C, H, W), the same where visible.
    """
    size = x.shape[-2:]
    if max(size) == 1 or not hidden.any():
        return x
    visible = (~hidden).to(x.dtype)
    share = avg_pool2d(visible, 2, ceil_mode=True)
    coarse = avg_pool2d(x.masked_fill(hidden, 0), 2, ceil_mode=True) / share.clamp(min=1e-6)
    filled = interpolate_visible(coarse, share == 0)
    return torch.where(hidden, interpolate(filled, size=size, mode='bilinear', align_corners=False), x)
