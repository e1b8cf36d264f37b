"""Compute the same networks in the plain way, on whole maps, as references.

In ConvNeXt, hidden cells are set to zero wherever they fill up; the UNet runs channels first.
"""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.convnext import ConvNeXt
from torch import Tensor, nn

from mae_toolkit.models.decoders import UNetDecoder
from mae_toolkit.models.mask_ops import hide, upsample


def has_masked_dense(encoder: nn.Module) -> bool:
    """Return whether :func:`masked_dense` knows the network of an encoder."""
    return isinstance(getattr(encoder, 'body', None), ConvNeXt)


def masked_dense(encoder: Any, imgs: Tensor, mask: Tensor) -> tuple[Tensor, ...]:
    """Compute the maps of a :class:`~mae_toolkit.models.encoders.ConvNeXt` densely, as SparK does (arXiv:2301.03580).

    Every position is computed, and what is hidden is zeroed after each operator that looks at neighbors or adds a
    bias; norms over space then sum over what is visible.

    Args:
        encoder: The encoder, whose ``body`` is timm's network.
        imgs: (B, C, H, W), of a size that the deepest stride divides, zero where hidden.
        mask: (B, 1, h, w) bool, True = hidden.

    Returns:
        The maps of the encoder's levels.
    """
    body = encoder.body
    x = hide(body.stem(imgs.to(memory_format=torch.channels_last)), mask)  # (B, C, H/4, W/4)
    levels = {-1: x}
    for i, stage in enumerate(body.stages):
        x = hide(stage.downsample(x), mask)
        for block in stage.blocks:
            x = _block(block, x, mask, encoder.grn_over_batch)
        levels[i] = x
    levels[i] = body.norm_pre(x)
    norms = zip(encoder.out_norms, encoder.out_indices, strict=True)
    return tuple(hide(norm(levels[i]), mask) for norm, i in norms)


def _block(block: Any, shortcut: Tensor, mask: Tensor, grn_over_batch: bool) -> Tensor:
    x = hide(block.conv_dw(shortcut), mask)
    if block.use_conv_mlp:
        x = _mlp(block.mlp, block.norm(x), mask, grn_over_batch)
    else:
        x = _mlp(block.mlp, block.norm(x.permute(0, 2, 3, 1)), mask, grn_over_batch).permute(0, 3, 1, 2)
    x = x if block.gamma is None else x * block.gamma.view(1, -1, 1, 1)
    return hide(block.drop_path(x) + shortcut, mask)


def _mlp(mlp: Any, x: Tensor, mask: Tensor, grn_over_batch: bool) -> Tensor:
    """Compute timm's MLP with a GRN that sums over what is visible (arXiv:2301.00808, algorithm 1)."""
    if not hasattr(mlp, 'grn'):
        return mlp(x)
    x, grn = mlp.act(mlp.fc1(x)), mlp.grn
    last = grn.channel_dim == -1
    x = x.permute(0, 3, 1, 2) if last else x  # (B, C, H, W)
    size = torch.linalg.vector_norm(hide(x, mask), dim=(0, 2, 3) if grn_over_batch else (2, 3), keepdim=True)
    size = size / (size.mean(1, keepdim=True) + grn.eps)
    x = x + grn.weight.view(1, -1, 1, 1) * (x * size) + grn.bias.view(1, -1, 1, 1)
    return mlp.fc2(x.permute(0, 2, 3, 1) if last else x)


def has_channels_first(decoder: nn.Module) -> bool:
    """Return whether :func:`channels_first` knows the network of a decoder."""
    return isinstance(decoder, UNetDecoder)


def channels_first(decoder: UNetDecoder, maps: Sequence[Tensor], mask: Tensor) -> Tensor:
    """Compute a :class:`~mae_toolkit.models.decoders.UNetDecoder` on contiguous maps (B, C, h, w).

    Args:
        decoder: The decoder.
        maps: The encoder's levels.
        mask: (B, 1, h, w) bool, True = hidden.

    Returns:
        What the decoder returns: (B, D, H/d, W/d).
    """
    parts = zip(reversed(maps), decoder.densify_norms, decoder.mask_tokens, decoder.densify_projs, strict=True)
    levels = [projection(_dense(x, norm, token, mask)) for x, norm, token, projection in parts]
    x: Any = 0
    for depth, block in enumerate((*decoder.dec, torch.nn.Identity())):
        x = block(sum((level for level, step in zip(levels, decoder.steps, strict=True) if step == depth), x))
    return x


def _dense(x: Tensor, norm: nn.Module, token: Tensor, mask: Tensor) -> Tensor:
    """Normalize the visible positions of a level, and put a token at the others."""
    hidden = upsample(mask, x.shape[-2:])
    visible = ~hidden.squeeze(1)
    x = x.permute(0, 2, 3, 1)
    dense = torch.zeros_like(x)
    dense[visible] = norm(x[visible][..., None, None]).flatten(1)  # (N, C)
    return torch.where(hidden, token, dense.permute(0, 3, 1, 2)).contiguous()
