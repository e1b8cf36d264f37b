"""Plain vision transformers of timm that compute only the visible tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.layers import PatchEmbed, RmsNorm, resample_abs_pos_embed
from timm.models.beit import Beit
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells, Packing, pack, unpack
from mae_toolkit.models.encoders.timm_body import check_frozen, create_body
from mae_toolkit.models.encoders.timm_encoder import TimmEncoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.layers.padding import pad_to_multiple
from mae_toolkit.models.layers.positions import compute_sincos_positions, look_up_positions
from mae_toolkit.models.layers.relative_positions import RelativePositions
from mae_toolkit.models.layers.vit_blocks import attention_weights, plan_attention, run_block
from mae_toolkit.models.mask_ops import find_grid, to_map, to_tokens, upsample
from mae_toolkit.registry import MODELS
from mae_toolkit.timm_models import TimmModule, find_timm_class

TOKENS = ('cls_token', 'reg_token', 'pos_embed')


@MODELS.register_module()
class ViT(TimmEncoder):
    """Any ``VisionTransformer`` or ``Beit`` of timm; hidden tokens are left out before the first block.

    Hidden tokens are left out as in MAE (arXiv:2111.06377, section 3), or replaced by a mask token as in SimMIM and
    MaskFeat. With nothing hidden and without windows the result equals timm's ``forward_intermediates``. Images of any
    size are padded to whole patches, and positions resized to them. For detectors (ViTDet, arXiv:2203.16527) attention
    can stay within windows in all but a few blocks, which then have no class token; under a mask it goes over the
    visible tokens of each window, and never to the padding of windows that reach beyond the map, which ViTDet's sees.

    Args:
        arch: Name in timm, such as ``'vit_base_patch16_224'`` or ``'beit_base_patch16_224'``.
        in_chans: Channels of the images.
        img_size: Pixels for which positions are stored; for any other size they are resized.
        positions: ``'sincos'`` (fixed) or ``'learned'``.
        mask_token: Put a learned token where it is hidden, and compute everything.
        window_size: Tokens per side of a window, to which attention is restricted; None for global attention.
        global_blocks: Blocks whose attention is global nevertheless.
        rel_pos: Add positions of rows and columns relative to each other, learned, zero at first; needs
            ``class_token=False``, which ``window_size`` implies.
        out_indices: Blocks whose output is returned, -1 for the embedded input; the last one if None. Blocks after the
            last index are not built.
        final_norm: Apply the architecture's last norm to each output, as timm's ``norm=True``.
        norm_eps: Epsilon of all norms; the architecture's own if None.
        frozen_stages: Freeze the embedding and this many blocks after it; -1 for nothing.
        with_cp: Recompute the activations of the blocks in the backward pass to save memory.
        init_cfg: See :class:`Encoder`.
        **kwargs: Arguments of timm, such as ``patch_size``, ``depth``, ``embed_dim``, ``reg_tokens``,
            ``drop_path_rate``; not what the encoder decides itself.

    Raises:
        UserError: If the architecture is unknown or embeds positions in its own way, an index is out of range, or
            windows are asked of an architecture that cannot have them.
    """

    grid: tuple[int, int]
    rel_pos: Any  # a list of RelativePositions, one for each block, or empty
    optional_keys = (*TimmEncoder.optional_keys, 'rel_pos.', 'body.cls_token', 'body.reg_token')

    def __init__(
        self,
        arch: str = 'vit_base_patch16_224',
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        positions: str = 'sincos',
        mask_token: bool = False,
        window_size: int | None = None,
        global_blocks: Sequence[int] | int = (),
        rel_pos: bool = False,
        out_indices: Sequence[int] | int | None = None,
        final_norm: bool = True,
        norm_eps: float | None = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        sizes = dict(in_chans=in_chans, img_size=img_size)
        body = _create(arch, norm_eps, windowed=window_size is not None, **sizes, **kwargs)
        self.set_body(body, len(body.blocks), out_indices, 'blocks')
        self.architecture_names |= {*TOKENS}  # files have them, also where this body leaves them out
        self.in_chans, self.with_cp, self.fills_hidden = in_chans, with_cp, mask_token
        self.ends_with_norm, self.has_class_token = final_norm, getattr(body, 'cls_token', None) is not None
        patch = body.patch_embed.proj.kernel_size[0]
        self.out_channels = (body.embed_dim,) * len(self.out_indices)
        self.out_strides = (patch,) * len(self.out_indices)
        self.mask_unit = patch
        self.grid = self.position_grid = tuple(body.patch_embed.grid_size)
        self._build_windows(arch, window_size, global_blocks, rel_pos, max(self.out_indices) + 1)
        body.blocks = body.blocks[: max(self.out_indices) + 1]
        if not final_norm:
            body.norm = nn.Identity()
        self._draw(positions)
        if mask_token:
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(body.embed_dim), std=0.02))
        self._freeze_blocks(check_frozen(frozen_stages, len(body.blocks), 'blocks'))

    def stages(self, x: Tensor, cells: Cells | None) -> Features:
        """Embed the visible patches and run the blocks on them, see :meth:`Encoder.stages`."""
        size, packing = find_grid(x, self.mask_unit), self.packing(cells)
        tokens = self._embed(x, packing, size, cells.mask if cells is not None and self.fills_hidden else None)
        levels = {-1: tokens}  # (B, P+V, C)
        attentions = plan_attention(self.body, packing, size, self.windows, self.rel_pos)
        for i, (block, attention) in enumerate(zip(self.body.blocks, attentions, strict=True)):
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
        *before, last = plan_attention(self.body, None, size, self.windows, self.rel_pos)
        for block, attention in zip(self.body.blocks[:-1], before, strict=True):
            x = run_block(block, x, attention)
        queries = 1 if self.has_class_token else x.shape[1]
        weights = attention_weights(self.body.blocks[-1], x, last, queries)  # (B, heads, queries, P+L)
        return weights.mean((1, 2))[:, self.body.num_prefix_tokens :].unflatten(1, size)

    def layer_depth(self, name: str, grouping: str = 'block') -> tuple[int, int]:
        """Return the depth of a parameter and the greatest, see :meth:`Encoder.layer_depth`.

        Embedding and positions have depth 0, block i has i + 1, and what follows the number of blocks + 1 (BEiT's
        rule).
        """
        depth = len(self.body.blocks)
        parts = name.removeprefix('body.').split('.')
        if parts[0] in ('blocks', 'rel_pos') and parts[1].isdigit():
            return int(parts[1]) + 1, depth + 1
        embedding = parts[0] in (*TOKENS, 'patch_embed', 'norm_pre', 'mask_token', 'rel_pos_bias')
        return 0 if embedding else depth + 1, depth + 1

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
        tokens = [getattr(body, name) for name in ('cls_token', 'reg_token') if getattr(body, name, None) is not None]
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

    @torch.no_grad()
    def _draw(self, positions: str) -> None:
        """Draw the weights as in MAE: Xavier-uniform layers, tokens N(0, .02), fixed or learned positions.

        BEiT's are as timm draws them.
        """
        body = self.body
        if positions not in ('sincos', 'learned'):
            raise UserError(f'positions={positions!r} must be "sincos" or "learned".')
        if isinstance(body, VisionTransformer):
            init_transformer(body)
            for token in (body.cls_token, body.reg_token):
                if token is not None:
                    nn.init.normal_(token, std=0.02)
        if positions == 'sincos' and body.pos_embed is not None:
            table = compute_sincos_positions(body.embed_dim, self.grid)
            body.pos_embed.zero_()[0, -len(table) :] = table
            body.pos_embed.requires_grad_(False)

    def _build_windows(
        self, arch: str, window: int | None, global_blocks: Sequence[int] | int, rel_pos: bool, built: int
    ) -> None:
        """Choose the window of each block, None for the whole map, and make relative positions."""
        blocks, asked = self.body.blocks, 'rel_pos' if window is None else f'window_size={window}'
        if window is not None or rel_pos:
            if not all(type(b) is Block and getattr(b.attn, 'gate', None) is None for b in blocks):
                raise UserError(f'{asked} is for plain transformer blocks, which {arch!r} does not have.')
            if self.body.num_prefix_tokens:
                raise UserError(
                    f'{asked} has no place for the {self.body.num_prefix_tokens} prefix tokens: set class_token=False '
                    'and reg_tokens=0.'
                )
        if window is not None and (not isinstance(window, int) or window < 1):
            raise UserError(f'{asked} must be a whole number of tokens, 1 or more.')
        depth = len(blocks)
        global_blocks = (global_blocks,) if isinstance(global_blocks, int) else tuple(global_blocks)
        if global_blocks and window is None:
            raise UserError(f'global_blocks={global_blocks} needs window_size: without it all blocks are global.')
        if not set(global_blocks) <= set(range(depth)):
            raise UserError(f'global_blocks {global_blocks} reach beyond the {depth} blocks 0 to {depth - 1}.')
        side = None if window is None else (window, window)
        self.windows = tuple(None if i in global_blocks else side for i in range(built))
        head_dim = self.body.embed_dim // blocks[0].attn.num_heads if rel_pos else 0
        sizes = [w or self.grid for w in self.windows] if rel_pos else []
        self.rel_pos = nn.ModuleList(RelativePositions(head_dim, size) for size in sizes)

    def _freeze_blocks(self, count: int) -> None:
        if count < 0:
            return
        body = self.body
        before = (getattr(body, name, None) for name in ('patch_embed', 'norm_pre', 'rel_pos_bias'))
        self.freeze([*(m for m in before if m is not None), *body.blocks[:count], *self.rel_pos[:count]])
        for token in (*(getattr(body, name, None) for name in TOKENS), getattr(self, 'mask_token', None)):
            if token is not None:
                token.requires_grad_(False)


def _patchify(imgs: Tensor, p: int) -> Tensor:
    """Cut (B, C, H, W) into patches (B, L, C*p*p) in raster order, each in the order (channel, row, column)."""
    b, c, height, width = imgs.shape
    x = imgs.reshape(b, c, height // p, p, width // p, p)
    return x.permute(0, 2, 4, 1, 3, 5).reshape(b, -1, c * p * p)


def _create(arch: str, norm_eps: float | None, windowed: bool, **kwargs: Any) -> TimmModule:
    """Make the timm model without its pooling and classifier, or refuse it."""
    kind = find_timm_class(arch, 'vit_')
    plain = issubclass(kind, VisionTransformer)
    own = [name for name in ('_pos_embed', 'forward_features') if _overrides(kind, name)]
    if own and plain:
        raise UserError(
            f"ViT runs timm's VisionTransformer, but {arch!r} is a {kind.__name__}, which embeds its input in "
            'another way; choose an architecture such as vit_base_patch16_224.'
        )
    fixed = {'fc_norm': False} if plain else {}
    if plain and windowed:
        kwargs.setdefault('class_token', False)
    body = create_body(arch, (VisionTransformer, Beit), 'vit_base_patch16', fixed=fixed, **kwargs)
    proj = getattr(body.patch_embed, 'proj', None)
    square = isinstance(proj, nn.Conv2d) and len(set(proj.kernel_size + proj.stride)) == 1
    if not square or not isinstance(body.patch_embed, PatchEmbed):  # the hybrids embed by a convolutional network
        raise UserError(f'ViT needs square patches that do not overlap, which {arch!r} does not have.')
    for norm in body.modules() if norm_eps is not None else ():
        if isinstance(norm, nn.LayerNorm | RmsNorm):
            norm.eps = norm_eps
    return body


def _overrides(kind: type, name: str) -> bool:
    return getattr(kind, name, None) is not getattr(VisionTransformer, name)
