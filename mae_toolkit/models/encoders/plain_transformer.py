"""The base class of encoders with a plain transformer of timm, which computes the visible tokens alone."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import PatchEmbed, RmsNorm, resample_abs_pos_embed
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells, Packing, pack, unpack
from mae_toolkit.models.encoders.timm_body import check_frozen
from mae_toolkit.models.encoders.timm_encoder import TimmEncoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.attention_places import AttentionPlaces, place_global, place_windows
from mae_toolkit.models.layers.padding import pad_to_multiple
from mae_toolkit.models.layers.positions import look_up_positions
from mae_toolkit.models.layers.vit_blocks import Attention, Window, attention_weights, run_block
from mae_toolkit.models.mask_ops import find_grid, to_map, to_tokens, upsample
from mae_toolkit.timm_models import TimmModule

TOKENS = ('cls_token', 'reg_token')
POSITIONS = ('pos_embed', 'rel_pos_bias', 'rope')


class PlainTransformer(TimmEncoder):
    """Base class of the encoders whose body is a plain transformer of timm: patches, prefix tokens and blocks.

    Patches are embedded at the visible places alone, with the positions of their places, and blocks run on what is
    embedded. A subclass makes the body and says in :meth:`attentions` how the tokens of each block see each other.

    Attributes:
        windows: Per block rows and columns of its windows, in tokens, or None for global attention.
        rel_pos: Relative positions of each block; empty unless a subclass makes them.
    """

    grid: tuple[int, int]
    windows: tuple[Window | None, ...]
    rel_pos: Any  # a list of RelativePositions
    optional_keys = (*TimmEncoder.optional_keys, 'body.cls_token', 'body.reg_token')

    def set_transformer(
        self,
        body: TimmModule,
        in_chans: int,
        out_indices: Sequence[int] | int | None,
        final_norm: bool,
        windows: Sequence[Window | None],
    ) -> None:
        """Take over a timm model, and remove the blocks after the last index and, if asked, the last norm.

        Raises:
            UserError: If an index is out of range.
        """
        self.set_body(body, len(body.blocks), out_indices, 'blocks')
        self.architecture_names |= {*TOKENS}  # files have them, also where this body leaves them out
        built = max(self.out_indices) + 1
        self.in_chans, self.windows, self.rel_pos = in_chans, tuple(windows[:built]), nn.ModuleList()
        self.has_class_token = getattr(body, 'cls_token', None) is not None
        self.ends_with_norm = final_norm and not isinstance(body.norm, nn.Identity)
        self.mask_unit = body.patch_embed.proj.kernel_size[0]
        self.out_channels = (body.embed_dim,) * len(self.out_indices)
        self.out_strides = (self.mask_unit,) * len(self.out_indices)
        self.grid = self.position_grid = tuple(body.patch_embed.grid_size)
        body.blocks = body.blocks[:built]
        if not final_norm:
            body.norm = nn.Identity()

    def set_mask_token(self, used: bool) -> None:
        """Draw a token for hidden places, if it is used."""
        self.fills_hidden = used
        if used:
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(self.body.embed_dim), std=0.02))

    def attentions(self, packing: Packing | None, size: tuple[int, int]) -> Sequence[Attention]:
        """Decide for each block which tokens see each other, and what it knows of their places.

        Args:
            packing: The visible tokens; None for all.
            size: Rows and columns of the map of tokens.
        """
        raise NotImplementedError

    def stages(self, x: Tensor, cells: Cells | None) -> Features:
        """Embed the visible patches and run the blocks on them, see :meth:`Encoder.stages`."""
        size, packing = find_grid(x, self.mask_unit), self.packing(cells)
        tokens = self._embed(x, packing, size, cells.mask if cells is not None and self.fills_hidden else None)
        levels = {-1: tokens}  # (B, P+V, C)
        for i, (block, attention) in enumerate(zip(self.body.blocks, self.attentions(packing, size), strict=True)):
            levels[i] = tokens = self.run(run_block, block, tokens, attention)
        return self._features([self.body.norm(levels[i]) for i in self.out_indices], packing, size)

    def class_attention(self, imgs: Tensor) -> Tensor:
        """Compute what the class token attends to in the last block that is built, averaged over heads.

        Without a class token it is the mean over all tokens. What goes to prefix tokens is left out, so that the sum
        over the map is below one.

        Args:
            imgs: (B, C, H, W); other sizes than whole patches are padded.

        Returns:
            (B, h, w), one value per patch, above zero.

        Raises:
            UserError: If the last block attends within windows, or in another way than plain blocks do.
        """
        imgs = pad_to_multiple(imgs, self.mask_unit)
        size = find_grid(imgs, self.mask_unit)
        x = self._embed(imgs, None, size, None)  # (B, P+L, C)
        *before, last = self.attentions(None, size)
        for block, attention in zip(self.body.blocks[:-1], before, strict=True):
            x = run_block(block, x, attention)
        queries = 1 if self.has_class_token else x.shape[1]
        weights = attention_weights(self.body.blocks[-1], x, last, queries)  # (B, heads, queries, P+L)
        return weights.mean((1, 2))[:, self.body.num_prefix_tokens :].unflatten(1, size)

    def place_attention(self, size: Sequence[int]) -> Sequence[AttentionPlaces]:
        """Say where the tokens of each block lie, see :meth:`Encoder.place_attention`."""
        patch, prefix = self.mask_unit, self.body.num_prefix_tokens
        grid = size[0] // patch, size[1] // patch
        return [
            place_global(grid, patch, prefix) if window is None else place_windows(grid, patch, window)
            for window in self.windows
        ]

    def list_blocks(self) -> Sequence[nn.Module]:
        """Return the transformer blocks, see :meth:`Encoder.list_blocks`."""
        return tuple(self.body.blocks)

    def layer_depth(self, name: str, grouping: str = 'block') -> tuple[int, int]:
        """Return the depth of a parameter and the greatest, see :meth:`Encoder.layer_depth`.

        Embedding and positions have depth 0, block i has i + 1, and what follows the number of blocks + 1 (BEiT's
        rule).
        """
        depth = len(self.body.blocks)
        parts = name.removeprefix('body.').split('.')
        if parts[0] in ('blocks', 'rel_pos') and parts[1].isdigit():
            return int(parts[1]) + 1, depth + 1
        embedding = parts[0] in (*TOKENS, *POSITIONS, 'patch_embed', 'norm_pre', 'mask_token')
        return 0 if embedding else depth + 1, depth + 1

    def freeze_blocks(self, count: int) -> None:
        """Freeze embedding, positions and the first blocks.

        Args:
            count: Number of blocks, -1 for nothing at all.

        Raises:
            UserError: If there are not so many.
        """
        if check_frozen(count, len(self.body.blocks), 'blocks') < 0:
            return
        body, names = self.body, (*TOKENS, *POSITIONS, 'patch_embed', 'norm_pre')
        before = [getattr(body, name, None) for name in names] + [getattr(self, 'mask_token', None)]
        self.freeze([*(m for m in before if isinstance(m, nn.Module)), *body.blocks[:count], *self.rel_pos[:count]])
        for token in before:
            if isinstance(token, nn.Parameter):
                token.requires_grad_(False)

    def _embed(self, imgs: Tensor, packing: Packing | None, size: tuple[int, int], mask: Tensor | None) -> Tensor:
        """Embed the visible patches, and put prefix tokens before them: (B, P+V, C), with their positions."""
        body = self.body
        proj = body.patch_embed.proj
        patches = _patchify(pack(imgs, packing), self.mask_unit)  # (B, V, c p p)
        x = body.patch_embed.norm(nn.functional.linear(patches, proj.weight.flatten(1), proj.bias))  # (B, V, C)
        if mask is not None:
            x = torch.where(to_tokens(upsample(mask, size)), self.mask_token.to(x.dtype), x)
        place, prefix_place = self._positions(size)
        if place is not None:
            x = x + look_up_positions(place[0], None if packing is None else packing.indices(size))
        tokens = [getattr(body, name) for name in TOKENS if getattr(body, name, None) is not None]
        if tokens:
            prefix = torch.cat(tokens, dim=1) + prefix_place
            x = torch.cat([prefix.expand(x.shape[0], -1, -1).to(x.dtype), x], dim=1)
        x = body.pos_drop(x)
        return body.norm_pre(x) if hasattr(body, 'norm_pre') else x

    def _positions(self, size: tuple[int, int]) -> tuple[Tensor | None, Tensor | int]:
        """Return positions (1, L, C) of a map of this size, or None, and of the prefix tokens (1, P, C), or zero."""
        body = self.body
        if body.pos_embed is None:
            return None, 0
        num_prefix = 0 if getattr(body, 'no_embed_class', False) else body.num_prefix_tokens
        table = resample_abs_pos_embed(body.pos_embed, list(size), list(self.grid), num_prefix)
        return table[:, num_prefix:], table[:, :num_prefix] if num_prefix else 0

    def _features(self, levels: Sequence[Tensor], packing: Packing | None, size: tuple[int, int]) -> Features:
        """Arrange the tokens (B, P+V, C) of each level as a map and prefix tokens."""
        num_prefix = self.body.num_prefix_tokens
        columns = size[1] if packing is None else size[1] // packing.grid[1]
        maps = tuple(unpack(to_map(x[:, num_prefix:], (-1, columns)), packing) for x in levels)
        return Features(maps, tuple(x[:, :num_prefix] if num_prefix else None for x in levels))


def check_patches(name: str, arch: str, body: TimmModule) -> None:
    """Refuse an architecture whose patches are not squares side by side, each embedded by one layer.

    Raises:
        UserError: In this case, as for the hybrids, which embed patches by a convolutional network.
    """
    proj = getattr(body.patch_embed, 'proj', None)
    square = isinstance(proj, nn.Conv2d) and len(set(proj.kernel_size + proj.stride)) == 1
    if not square or not isinstance(body.patch_embed, PatchEmbed):
        raise UserError(f'{name} needs square patches that do not overlap, which {arch!r} does not have.')


def set_norm_eps(body: TimmModule, eps: float | None) -> None:
    """Set epsilon of all norms, unless it is None."""
    for norm in body.modules() if eps is not None else ():
        if isinstance(norm, nn.LayerNorm | RmsNorm):
            norm.eps = eps


def choose_windows(depth: int, window_size: int | None, global_blocks: Sequence[int] | int) -> list[Window | None]:
    """Choose rows and columns of the windows of each block, or None for global attention.

    Args:
        depth: Number of blocks.
        window_size: Tokens per side of a window; None for global attention in all blocks.
        global_blocks: Blocks whose attention is global nevertheless.

    Raises:
        UserError: If the size is no positive whole number, or the blocks do not belong to it.
    """
    if window_size is not None and (not isinstance(window_size, int) or window_size < 1):
        raise UserError(f'window_size={window_size} must be a whole number of tokens, 1 or more.')
    global_blocks = (global_blocks,) if isinstance(global_blocks, int) else tuple(global_blocks)
    if global_blocks and window_size is None:
        raise UserError(f'global_blocks={global_blocks} needs window_size: without it all blocks are global.')
    if not set(global_blocks) <= set(range(depth)):
        raise UserError(f'global_blocks {global_blocks} reach beyond the {depth} blocks 0 to {depth - 1}.')
    side = None if window_size is None else (window_size, window_size)
    return [None if i in global_blocks else side for i in range(depth)]


def _patchify(imgs: Tensor, p: int) -> Tensor:
    """Cut (B, C, H, W) into patches (B, L, C*p*p) in raster order, each in the order (channel, row, column)."""
    b, c, height, width = imgs.shape
    x = imgs.reshape(b, c, height // p, p, width // p, p)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)
