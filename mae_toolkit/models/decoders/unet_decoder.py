"""The decoder of SparK."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells, pack, unpack
from mae_toolkit.models.decoders.decoder import Decoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.recompute import keep_inputs
from mae_toolkit.models.layers.sync_batch_norm import synchronize
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.registry import MODELS

NORMS = {'batch': nn.BatchNorm2d, 'layer': LayerNorm2d}


@MODELS.register_module()
class UNetDecoder(Decoder):
    """A light UNet from the deepest level to pixels (SparK, arXiv:2301.03580, section 3.3).

    Each level is made dense: its visible cells are normalized, a token of the level is put at the hidden ones, and a
    convolution projects it. Each block doubles the resolution and halves the channels, and takes the levels of its
    resolution beside the output of the block before. Levels of one stride are added; prefix tokens are not used.

    Args:
        in_channels: Channels of the encoder's levels.
        in_strides: Pixels per position of these levels.
        width: Channels at the greatest stride.
        norm: Norm of the visible cells: ``'batch'`` (SparK's for ResNets) or ``'layer'`` (for ConvNeXt).
        stride: Pixels per position of the output: the greatest stride of the encoder, divided by a power of two.
        sync_bn: Compute the statistics of batch norms over all processes.
        with_cp: Recompute the activations of the blocks in the backward pass to save memory.

    Raises:
        UserError: If blocks that double the resolution do not lead from the levels to ``stride``, the width cannot be
            halved so often, or there is no such norm.
    """

    def __init__(
        self,
        in_channels: Sequence[int],
        in_strides: Sequence[int],
        width: int = 768,
        norm: str = 'batch',
        stride: int = 1,
        sync_bn: bool = False,
        with_cp: bool = False,
    ) -> None:
        super().__init__()
        if norm not in NORMS:
            raise UserError(f'UNetDecoder: norm={norm!r} must be one of {", ".join(NORMS)}.')
        self.steps = tuple(_doublings(max(in_strides), level) for level in reversed(in_strides))  # the deepest first
        depth = _doublings(max(in_strides), stride)
        if max(self.steps) > depth:
            raise UserError(
                f'UNetDecoder: its stride={stride} is coarser than stride {min(in_strides)} of an encoder level; set '
                f'stride={min(in_strides)} or less, or leave the level out of out_indices.'
            )
        if width < 1 or width % 2**depth:
            raise UserError(f'UNetDecoder: width={width} cannot be halved {depth} times, from one block to the next.')
        self.out_channels, self.out_stride, self.with_cp = width >> depth, stride, with_cp
        channels = tuple(reversed(in_channels))
        self.densify_norms = nn.ModuleList(NORMS[norm](c) for c in channels)
        self.mask_tokens = nn.ParameterList(nn.Parameter(torch.empty(c, 1, 1)) for c in channels)
        self.densify_projs = nn.ModuleList(
            _projection(c, width >> step, step) for c, step in zip(channels, self.steps, strict=True)
        )
        self.dec = nn.ModuleList(_Block(width >> i) for i in range(depth))
        if sync_bn:
            synchronize(self)
        _draw(self)
        self.to(memory_format=torch.channels_last)  # as the maps are: else every call would reorder the kernels

    def forward(self, features: Features, cells: Cells) -> Tensor:
        """Decode all cells; see :meth:`Decoder.forward`."""
        levels = [self._densify(i, x, cells) for i, x in enumerate(reversed(features.maps))]
        x: Any = 0
        for depth, block in enumerate((*self.dec, None)):
            x = sum((level for level, step in zip(levels, self.steps, strict=True) if step == depth), x)
            if block is not None:
                x = keep_inputs(block, x) if self.with_cp and self.training else block(x)
        return x

    def list_blocks(self) -> Sequence[nn.Module]:
        """Return the blocks that double the resolution, see :meth:`Decoder.list_blocks`."""
        return tuple(self.dec)

    def _densify(self, i: int, x: Tensor, cells: Cells) -> Tensor:
        """Turn a level (B, C, h, w), zero where hidden, into a map (B, D, h, w) without gaps."""
        packing = cells.visible()
        x = unpack(self.densify_norms[i](pack(x, packing)), packing)
        token = self.mask_tokens[i].to(x.dtype)
        return self.densify_projs[i](torch.where(upsample(cells.mask, x.shape[-2:]), token, x))


class _Block(nn.Module):
    """Block that doubles the resolution: (B, C, h, w) -> (B, C/2, 2h, 2w)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.up_sample = nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU6(inplace=True),
            nn.Conv2d(channels, channels // 2, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels // 2),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(self.up_sample(x))


def _projection(channels: int, width: int, step: int) -> nn.Module:
    """Make SparK's projection: at the deepest level position by position, or nothing where the channels are right."""
    if step:
        return nn.Conv2d(channels, width, 3, padding=1)
    return nn.Identity() if channels == width else nn.Conv2d(channels, width, 1)


def _doublings(coarse: int, fine: int) -> int:
    """Count how often the resolution of one stride is doubled until it is that of another."""
    steps = round(math.log2(coarse / fine)) if 0 < fine <= coarse else -1
    if steps < 0 or fine << steps != coarse:
        raise UserError(f'UNetDecoder doubles the resolution per block, so stride {coarse} never becomes {fine}.')
    return steps


def _draw(decoder: UNetDecoder) -> None:
    """Draw tokens and weights as SparK's official code: truncated normal, and transposed convolutions as torch."""
    for layer in decoder.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    for token in decoder.mask_tokens:
        nn.init.trunc_normal_(token, std=0.02)
