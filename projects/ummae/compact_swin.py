"""The encoder of UM-MAE: a Swin on an image of half the size, that knows where its tokens come from."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from timm.layers import LayerNorm
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells
from mae_toolkit.models.encoders import Swin
from mae_toolkit.models.encoders.swin import StageAttention
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.attention import WindowAttention
from mae_toolkit.models.layers.windows import shift_mask
from mae_toolkit.registry import MODELS
from mae_toolkit.timm_models import TimmModule
from projects.ummae.compaction import check_rows, compact
from projects.ummae.position_mlp import find_distances, mlp_bias

BLOCK_EPS, OTHER_EPS = 1e-5, 1e-6


@MODELS.register_module()
class CompactSwin(Swin):
    """Swin with computed positions, on the visible cells pushed together (UM-MAE, arXiv:2205.10063, section 3).

    Under a mask that leaves one of each 2 x 2 cells visible, these cells make an image of half the size, on which the
    network runs as it is: the levels are maps of half the size, too, and not laid out like the image; a
    :class:`~projects.ummae.CompactDecoder` reads them. Attention adds a bias that a small network computes from where
    query and key lie in the image. Without a mask it is a backbone like any other.

    Args:
        arch: Name of a Swin V1 in timm; merging and positions differ from it.
        position_dim: Width of the networks that compute the bias.
        replaced: Share of the visible cells that a learned token replaces (secondary masking, section 3.3).
        window_size: Tokens per side of a window; no larger than a map.
        img_size: Pixels.
        **kwargs: See :class:`Swin`, without ``mask_token`` and ``norm_eps``.

    Raises:
        UserError: If ``replaced`` is out of range, there is a mask token, or for the reasons of :class:`Swin`.
    """

    def __init__(
        self,
        arch: str = 'swin_tiny_patch4_window7_224',
        position_dim: int = 32,
        replaced: float = 0.0,
        window_size: int = 8,
        img_size: int | tuple[int, int] = 256,
        **kwargs: Any,
    ) -> None:
        if kwargs.get('mask_token'):
            raise UserError('CompactSwin skips hidden cells: leave mask_token=True out, or set replaced=... instead.')
        if kwargs.get('ape'):
            raise UserError('CompactSwin computes its positions: leave ape=True out.')
        super().__init__(arch, img_size=img_size, window_size=window_size, **kwargs)
        if not 0 <= replaced < 1:
            raise UserError(f'CompactSwin: replaced={replaced} must be a fraction of the cells, from 0 to below 1.')
        self.replaced, self.window, self.mask_unit = replaced, window_size, self.out_strides[-1] // 2
        sides = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        self.grid = tuple(n // self.out_strides[-1] for n in sides)
        for norm in self.body.modules():
            if isinstance(norm, nn.LayerNorm):
                norm.eps = OTHER_EPS
        for stage in self.body.layers:
            _adapt(stage, position_dim)
        built_otherwise = {'relative_position_bias_table': 'posmlp.', 'reduction.weight': 'proj.'}
        for theirs, ours in built_otherwise.items():
            self.architecture_names |= {name.replace(theirs, ours) for name in self.architecture_names}
        if replaced:
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(self.body.embed_dim), std=0.02))
        self.freeze([self.get_submodule(name) for name in self._frozen])  # what is new in them

    @property
    def pad_unit(self) -> int:
        """Pixels to a multiple of which the sides of whole images are padded: the deepest stride."""
        return self.body.patch_embed.patch_size[0] << (len(self.body.layers) - 1)

    def stages(self, x: Tensor, cells: Cells | None) -> Features:
        """Run the stages on images, or on their visible cells as smaller images, see :meth:`Encoder.stages`."""
        size, patch = x.shape[-2:], self.body.patch_embed.patch_size[0]
        if cells is not None:
            check_rows(cells.mask)
            x = compact(x, cells.mask)
            _check_sides(x, self.pad_unit)
        pixels = x.shape[-2:]
        x = self.body.patch_embed.norm(self.body.patch_embed.proj(x).permute(0, 2, 3, 1))  # (B, h, w, C)
        places, cell = None, 1
        if cells is not None:
            x = self._replace(x, cells.mask, cells.num_visible)
            places = _places(len(x), [n // patch for n in size], x)
            places = compact(places, cells.mask).permute(0, 2, 3, 1)  # (B, h, w, 2)
            cell = size[0] // cells.mask.shape[2] // patch
        attentions = []
        for i in range(len(self.body.layers)):
            scaled = None if places is None else places[:, :: 2**i, :: 2**i] / 2**i
            attentions.append(self._attend(i, pixels, x.device, scaled, cell / 2**i))
        return self.outputs(self._levels(x, pixels, attentions), None)

    def _replace(self, x: Tensor, mask: Tensor, num_visible: int) -> Tensor:
        """Put the token at some of the visible cells of embedded and compacted images (B, h, w, C)."""
        if not self.replaced:
            return x
        chosen = compact(draw_replaced(mask, self.replaced, num_visible).to(x.dtype), mask)  # (B, 1, ., .)
        scale = x.shape[1] // chosen.shape[2]
        chosen = chosen.bool().repeat_interleave(scale, 2).repeat_interleave(scale, 3).permute(0, 2, 3, 1)
        return torch.where(chosen, self.body.patch_embed.norm(self.mask_token).to(x.dtype), x)

    def _attend(
        self, i: int, size: Sequence[int], device: torch.device, places: Tensor | None, cell: float
    ) -> StageAttention:
        """Make the attention of a stage, by the shift of its windows, for tokens at these places in the image."""
        side = self._map_size(i, size)
        window = tuple(min(self.window, n) for n in side)
        attentions = {}
        for shift in set(self._shifts(i, size)):
            bias = partial(mlp_bias, distances=find_distances(window, device, places, shift, cell))
            attentions[shift] = WindowAttention(bias, side, window, shift, shift_mask(side, window, shift, device))
        return attentions


class Merging(nn.Module):
    """Merging of 2 x 2 tokens: a norm, then a convolution of stride 2 on maps (B, h, w, C)."""

    def __init__(self, dim: int, out_dim: int) -> None:
        super().__init__()
        self.norm = LayerNorm(dim, eps=OTHER_EPS)
        self.proj = nn.Conv2d(dim, out_dim, 2, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Merge 2 x 2 tokens: (B, h, w, C) -> (B, h/2, w/2, D)."""
        return self.proj(self.norm(x).permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def draw_replaced(mask: Tensor, ratio: float, num_visible: int | None = None) -> Tensor:
    """Draw some of the visible cells, as many in every image: (B, 1, h, w) bool.

    Args:
        mask: (B, 1, h, w) bool, True = hidden.
        ratio: Share of the visible cells.
        num_visible: Visible cells per image; counted if None, which waits for the device.
    """
    visible = int((~mask[0]).sum()) if num_visible is None else num_visible
    count = visible - int(visible * (1 - ratio))
    noise = torch.rand(mask.flatten(1).shape, device=mask.device).masked_fill(mask.flatten(1), -1)
    chosen = noise.topk(count, dim=1).indices
    return torch.zeros_like(noise, dtype=torch.bool).scatter(1, chosen, True).view(mask.shape)


def _places(batch: int, size: Sequence[int], like: Tensor) -> Tensor:
    """Return row and column (B, 2, h, w) of each token."""
    axes = [torch.arange(n, device=like.device, dtype=torch.float32) for n in size]
    return torch.stack(torch.meshgrid(*axes, indexing='ij')).expand(batch, -1, -1, -1)


def _check_sides(imgs: Tensor, deepest: int) -> None:
    height, width = imgs.shape[-2:]
    if height % deepest or width % deepest:
        raise UserError(
            f'The visible cells make an image of {height} x {width} pixels, which the deepest stride {deepest} does '
            f'not divide: use images whose sides are multiples of {2 * deepest} pixels.'
        )


def _adapt(stage: TimmModule, position_dim: int) -> None:
    """Exchange the bias table and the merging of a stage of timm."""
    for block in stage.blocks:
        block.norm1.eps = block.norm2.eps = BLOCK_EPS
        del block.attn.relative_position_bias_table
        heads = block.attn.num_heads
        block.attn.posmlp = nn.Sequential(nn.Conv2d(2, position_dim, 1), nn.ReLU(), nn.Conv2d(position_dim, heads, 1))
    if hasattr(stage.downsample, 'reduction'):
        reduction = stage.downsample.reduction
        stage.downsample = Merging(reduction.in_features // 4, reduction.out_features)
