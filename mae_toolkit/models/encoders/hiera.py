"""Hiera of timm without its hidden mask units."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from timm.models.hiera import Hiera as TimmHiera
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells, pack
from mae_toolkit.models.encoders.timm_body import check_frozen, create_body
from mae_toolkit.models.encoders.timm_encoder import TimmEncoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.attention_places import AttentionPlaces, place_tokens
from mae_toolkit.models.mask_ops import find_grid, to_map
from mae_toolkit.registry import MODELS
from mae_toolkit.timm_models import TimmModule


@MODELS.register_module()
class Hiera(TimmEncoder):
    """Any two-dimensional ``Hiera`` of timm; hidden mask units are left out after the patch embedding.

    The overlapping convolution of the patch embedding takes hidden pixels as zeros (arXiv:2306.00989, section 3.2).
    Attention goes within mask units first, then over all visible tokens. With nothing hidden the result equals timm's
    ``forward_intermediates``. Images of any size are padded to whole mask units.

    Args:
        arch: Name in timm, such as ``'hiera_base_224'``.
        in_chans: Channels of the images.
        img_size: Pixels for which positions are stored; for any other size they are resized.
        q_pool: Stage changes that halve the resolution; 2 for masked pretraining (Hiera, section 3.3).
        out_indices: Stages whose output is returned, -1 for the embedded input; the last one if None. Blocks after the
            last index are not built.
        out_norms: Apply a layer norm to each output, as detectors and segmenters use it.
        frozen_stages: Freeze the embedding and this many stages after it; -1 for nothing.
        with_cp: Recompute the activations of the blocks in the backward pass to save memory.
        init_cfg: See :class:`Encoder`.
        **kwargs: Arguments of timm, such as ``stages``, ``embed_dim``, ``num_heads``, ``drop_path_rate``.

    Raises:
        UserError: If the architecture is unknown, or strides and mask units do not fit.
    """

    timm_classes = (TimmHiera,)
    position_grid: tuple[int, int]

    def __init__(
        self,
        arch: str = 'hiera_base_224',
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        q_pool: int = 3,
        out_indices: Sequence[int] | int | None = None,
        out_norms: bool = False,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        size = (img_size, img_size) if isinstance(img_size, int) else tuple(img_size)
        body = create_body(arch, self.timm_classes, 'hiera', in_chans=in_chans, img_size=size, q_pool=q_pool, **kwargs)
        _refuse_other_shapes(arch, body)
        self.ends = tuple(body.stage_ends)  # the last block of each stage
        self.set_body(body, len(self.ends), out_indices)
        self.in_chans, self.q_pool, self.with_cp = in_chans, q_pool, with_cp
        self.levels = len(self.ends) - 1  # a mask unit has 2**levels tokens a side
        patch = body.patch_stride[0]
        self.mask_unit = patch * 2**self.levels
        self.position_grid = tuple(body.tokens_spatial_shape)
        widths = {-1: body.blocks[0].dim} | {i: body.blocks[end].dim_out for i, end in enumerate(self.ends)}
        self.out_channels = tuple(widths[i] for i in self.out_indices)
        self.out_strides = tuple(patch * 2 ** self._count_halvings(i) for i in self.out_indices)
        self.grid = (size[0] // self.out_strides[-1], size[1] // self.out_strides[-1])
        last = max(self.out_indices)
        body.blocks, body.head = body.blocks[: self.ends[last] + 1 if last >= 0 else 0], nn.Identity()
        self.set_norms(out_norms)
        self._freeze_stages(check_frozen(frozen_stages, last + 1, 'stages'))

    @classmethod
    def downstream(cls, config: dict[str, Any]) -> dict[str, Any]:
        """Turn a pretraining config into one for detectors, where every change of stage halves the resolution.

        See :meth:`Encoder.downstream`.
        """
        config = super().downstream(config)
        with torch.device('meta'):
            return config | {'q_pool': cls(**{key: v for key, v in config.items() if key != 'type'}).num_levels - 1}

    def stages(self, x: Tensor, cells: Cells | None) -> Features:
        """Embed whole images and run the blocks on the visible mask units, see :meth:`Encoder.stages`."""
        grid = find_grid(x, self.mask_unit)
        packing = None if cells is None else cells.visible().refine(grid)
        x = self.body.patch_embed.proj(x)  # (B, C, h*8, w*8)
        x = x + self._positions(x.shape[-2:])
        x = unroll(pack(x, packing), self.levels)  # (B, 64*V, C)
        units = grid if packing is None else (packing.ids.shape[1], 1)  # rows and columns of units, as packed
        levels = {-1: roll(x, units, self.levels)}
        for i, block in enumerate(self.body.blocks):
            x = self.run(block, x)
            if i in self.ends:
                stage = self.ends.index(i)
                levels[stage] = roll(x, units, self.levels - self._count_halvings(stage))  # (B, C, V*u, u)
        return self.outputs(levels, packing)

    def place_attention(self, size: Sequence[int]) -> Sequence[AttentionPlaces]:
        """Say where the tokens of each block lie, see :meth:`Encoder.place_attention`; a pooled query has four."""
        stride = self.body.patch_stride[0]
        places = place_tokens([n // stride for n in size], stride)
        tokens = unroll(places.permute(0, 3, 1, 2), self.levels)[0]  # (L, 2)
        found = []
        for block in self.body.blocks:
            attn, pooled = block.attn, block.attn.q_stride
            groups = len(tokens) // (pooled * attn.window_size) if attn.use_mask_unit_attn else 1
            keys = tokens.view(-1, groups, 2).transpose(0, 1)  # (G, T, 2): tokens of a unit lie G apart
            queries = keys.unflatten(1, (pooled, -1)).mean(1)
            found.append(AttentionPlaces(queries, keys, stride, heads_before_groups=True))
            tokens = tokens.unflatten(0, (pooled, -1)).mean(0)
            stride *= math.isqrt(pooled)
        return found

    def list_blocks(self) -> Sequence[nn.Module]:
        """Return the transformer blocks, see :meth:`Encoder.list_blocks`."""
        return tuple(self.body.blocks)

    def layer_depth(self, name: str, grouping: str = 'block') -> tuple[int, int]:
        """Return the depth of a parameter and the greatest, see :meth:`Encoder.layer_depth`.

        Embedding and positions have depth 0, block i has i + 1, and what follows the number of blocks + 1.
        """
        depth = len(self.body.blocks)
        parts = name.removeprefix('body.').split('.')
        if parts[0] == 'blocks':
            return int(parts[1]) + 1, depth + 1
        return (0 if parts[0].startswith(('patch_embed', 'pos_embed')) else depth + 1), depth + 1

    def _count_halvings(self, stage: int) -> int:
        """Count how often the resolution was halved by the end of a stage; -1 is the embedding."""
        return min(max(stage, 0), self.q_pool)

    def _positions(self, size: Sequence[int]) -> Tensor:
        """Return positions (1, C, *size), resized from those that are stored."""
        table, window = self.body.pos_embed, self.body.pos_embed_win
        if window is not None:  # arXiv:2311.05613, section 4: one table within mask units, one over the image
            repeats = [n // m for n, m in zip(size, window.shape[-2:], strict=True)]
            return _resize(table, size) + window.tile(1, 1, *repeats)
        return _resize(to_map(table, self.position_grid), size)

    def _freeze_stages(self, count: int) -> None:
        if count < 0:
            return
        blocks = self.body.blocks[: self.ends[count - 1] + 1 if count else 0]
        self.freeze([self.body.patch_embed, *blocks])
        for table in (self.body.pos_embed, self.body.pos_embed_win):
            if table is not None:
                table.requires_grad_(False)


def unroll(x: Tensor, levels: int) -> Tensor:
    """Order the positions of a map so that pooling a sequence of tokens pools neighbors.

    The four tokens of each 2x2 square lie a quarter of the sequence apart, then the four squares of each 4x4 square,
    and so on: ``x.unflatten(1, (4, -1)).amax(1)`` is a max-pooling, and mask units stay apart (Hiera's unrolling,
    arXiv:2306.00989, appendix A).

    Args:
        x: (B, C, h * 2**levels, w * 2**levels), a map of h x w mask units.
        levels: How often it can be pooled.

    Returns:
        Tokens (B, 4**levels * h*w, C).
    """
    b, c = x.shape[:2]
    bits = (2,) * levels
    x = x.reshape(
        b, c, -1, *bits, x.shape[3] >> levels, *bits
    )  # (B, C, h, 2, 2, 2, w, 2, 2, 2), the coarsest bit first
    rows = [3 + levels - 1 - i for i in range(levels)]  # the finest bit first
    order = [axis for row in rows for axis in (row, row + levels + 1)]
    return x.permute(0, *order, 2, 3 + levels, 1).reshape(b, -1, c)


def roll(x: Tensor, units: tuple[int, int], levels: int) -> Tensor:
    """Arrange tokens as a map (B, C, h * 2**levels, w * 2**levels) of h x w units: the inverse of :func:`unroll`."""
    b, _, c = x.shape
    h, w = units
    x = x.reshape(b, *(2, 2) * levels, h, w, c)
    rows = [1 + 2 * (levels - 1 - i) for i in range(levels)]  # the coarsest bit first
    end = 1 + 2 * levels
    x = x.permute(0, end, *rows, end + 1, *(row + 1 for row in rows), end + 2)  # (B, h, 2, 2, 2, w, 2, 2, 2, C)
    return x.reshape(b, h << levels, w << levels, c).permute(0, 3, 1, 2)


def _resize(table: Tensor, size: Sequence[int]) -> Tensor:
    if table.shape[-2:] == tuple(size):
        return table
    return interpolate(table, size=tuple(size), mode='bicubic', antialias=True)


def _refuse_other_shapes(arch: str, body: TimmModule) -> None:
    stride, unit, levels = body.patch_stride, body.mask_unit_size, len(body.stage_ends) - 1
    if body.pos_embed_spatial is not None or len(stride) != 2 or stride[0] != stride[1]:
        raise UserError(f'Hiera takes images with square patches, not {arch!r} with patch_stride={tuple(stride)}.')
    if tuple(body.q_stride) != (2, 2) or tuple(unit) != (2**levels,) * 2:
        raise UserError(
            f'Hiera needs q_stride=(2, 2) and mask units of {2**levels} x {2**levels} tokens for {levels + 1} stages, '
            f'not {tuple(body.q_stride)} and {tuple(unit)}.'
        )
