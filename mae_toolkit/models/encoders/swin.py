"""Swin V1 and V2 of timm, on the visible cells alone or with a mask token."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.swin_transformer import SwinTransformer
from timm.models.swin_transformer_v2 import SwinTransformerV2, SwinTransformerV2Block
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Cells, Packing, pack
from mae_toolkit.models.encoders.timm_body import check_frozen, create_body
from mae_toolkit.models.encoders.timm_encoder import TimmEncoder
from mae_toolkit.models.features import Features
from mae_toolkit.models.layers.attention import WindowAttention, swin_bias
from mae_toolkit.models.layers.attention_places import AttentionPlaces, place_windows
from mae_toolkit.models.layers.positions import LearnedPositions
from mae_toolkit.models.layers.windows import plan_windows, shift_mask
from mae_toolkit.models.mask_ops import to_map, upsample
from mae_toolkit.registry import MODELS
from mae_toolkit.timm_models import TimmModule

# How the tokens of a stage see each other, by the shift of its windows.
StageAttention = dict[tuple[int, int], WindowAttention]


@MODELS.register_module()
class Swin(TimmEncoder):
    """Any ``SwinTransformer`` or ``SwinTransformerV2`` of timm (arXiv:2103.14030, arXiv:2111.09883).

    By default only visible cells are computed: layers per token and patch merging run on packed cells, attention goes
    over the visible tokens of each window (as in GreenMIM, arXiv:2205.13515, but every image has its own mask, and
    windows lie where Swin has them). With a mask token everything is computed, as in SimMIM (arXiv:2111.09886). Images
    of any size are padded to a multiple of the deepest stride; windows that reach beyond a map are padded first and
    then shifted, as in MMDetection, where timm does it the other way round. As there, the padding of a whole map takes
    part in attention, so that where windows do not divide a map, hiding nothing is not the same as ``mask=None``.

    Args:
        arch: Name in timm, such as ``'swin_base_patch4_window7_224'``.
        in_chans: Channels of the images.
        img_size: Pixels; a window is no larger than the map of such an image.
        mask_token: Put a learned token where it is hidden, and compute everything.
        out_indices: Stages whose output is returned, -1 for the embedded input; the last one if None. Stages after the
            last index are not built.
        final_norm: Apply the architecture's last norm to the last stage.
        out_norms: Apply a layer norm to each output, as detectors and segmenters use it.
        ape: Add learned absolute positions after the embedding, resized to images of other sizes.
        patch_norm: Apply a layer norm to the embedding.
        norm_eps: Epsilon of all layer norms; the architecture's own, 1e-5, if None.
        frozen_stages: Freeze the embedding and this many stages after it; -1 for nothing.
        with_cp: Recompute the activations of the blocks in the backward pass to save memory.
        init_cfg: See :class:`Encoder`.
        **kwargs: Arguments of timm, such as ``window_size``, ``depths``, ``embed_dim``, ``drop_path_rate``.

    Raises:
        UserError: If the architecture is unknown, or an index is out of range.
    """

    timm_classes = (SwinTransformer, SwinTransformerV2)

    def __init__(
        self,
        arch: str = 'swin_tiny_patch4_window7_224',
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        mask_token: bool = False,
        out_indices: Sequence[int] | int | None = None,
        final_norm: bool = True,
        out_norms: bool = False,
        ape: bool = False,
        patch_norm: bool = True,
        norm_eps: float | None = None,
        frozen_stages: int = -1,
        with_cp: bool = False,
        init_cfg: dict | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(init_cfg)
        body = create_body(arch, self.timm_classes, 'swin', in_chans=in_chans, img_size=img_size, **kwargs)
        self.set_body(body, len(body.layers), out_indices)
        self.in_chans, self.with_cp, self.fills_hidden = in_chans, with_cp, mask_token
        last = max(self.out_indices)
        if last < len(body.layers) - 1 or not final_norm:
            body.norm = nn.Identity()
        self.ends_with_norm = not isinstance(body.norm, nn.Identity)
        body.layers, body.head = body.layers[: last + 1], nn.Identity()
        patch = body.patch_embed.patch_size[0]
        if tuple(body.patch_embed.patch_size) != (patch, patch):
            raise UserError(f'Swin needs square patches, not patch_size={tuple(body.patch_embed.patch_size)}.')
        channels = [body.embed_dim, *(stage.blocks[0].dim for stage in body.layers)]
        strides = [patch, *(patch * 2**i for i in range(len(body.layers)))]
        self.out_channels = tuple(channels[i + 1] for i in self.out_indices)
        self.out_strides = tuple(strides[i + 1] for i in self.out_indices)
        self.mask_unit, self.token_unit = strides[-1], patch if mask_token else None
        self.set_norms(out_norms)
        if not patch_norm:
            body.patch_embed.norm = nn.Identity()
        if ape:
            self.grid = tuple(n // strides[-1] for n in body.patch_embed.img_size)
            self.position_grid = tuple(body.patch_embed.grid_size)
            self.positions = LearnedPositions(body.embed_dim, self.position_grid)
        if mask_token:
            self.mask_token = nn.Parameter(nn.init.trunc_normal_(torch.empty(body.embed_dim), std=0.02))
        for norm in self.modules():
            if isinstance(norm, nn.LayerNorm) and norm_eps is not None:
                norm.eps = norm_eps
        frozen_stages = check_frozen(frozen_stages, len(body.layers), 'stages')
        if frozen_stages >= 0:
            self.freeze([body.patch_embed, *([self.positions] if ape else []), *body.layers[:frozen_stages]])
            for token in [self.mask_token] if mask_token else []:
                token.requires_grad_(False)

    def stages(self, x: Tensor, cells: Cells | None) -> Features:
        """Run the stages on the visible cells, or on all with the mask token, see :meth:`Encoder.stages`."""
        size, packing = x.shape[-2:], None
        if cells is None or self.fills_hidden:
            attentions = [self._attend_whole(i, size, x.device) for i in range(len(self.body.layers))]
        else:
            packing, attentions = self._plan(cells, size)
        x = self.body.patch_embed.proj(pack(x, packing)).permute(0, 2, 3, 1)  # (B, h, w, C) or (B, V*u, u, C)
        x = self.body.patch_embed.norm(x)
        if self.fills_hidden and cells is not None:
            hidden = upsample(cells.mask, x.shape[1:3]).permute(0, 2, 3, 1)  # (B, h, w, 1)
            x = torch.where(hidden, self.mask_token.to(x.dtype), x)
        if hasattr(self, 'positions'):
            x = x + self._place(size, packing)
        return self.outputs(self._levels(x, size, attentions), packing)

    def place_attention(self, size: Sequence[int]) -> Sequence[AttentionPlaces]:
        """Say where the tokens of each block lie, see :meth:`Encoder.place_attention`."""
        patch = self.body.patch_embed.patch_size[0]
        return [
            place_windows(self._map_size(i, size), patch << i, stage.blocks[0].attn.window_size, shift)
            for i, stage in enumerate(self.body.layers)
            for shift in self._shifts(i, size)
        ]

    def list_blocks(self) -> Sequence[nn.Module]:
        """Return the blocks of all stages, see :meth:`Encoder.list_blocks`."""
        return tuple(block for stage in self.body.layers for block in stage.blocks)

    def layer_depth(self, name: str, grouping: str = 'block') -> tuple[int, int]:
        """Return the depth of a parameter and the greatest, see :meth:`Encoder.layer_depth`.

        Embedding, positions and mask token have depth 0, blocks are counted over all stages, and a patch merging has
        the depth of the block before it: the rule of SimMIM's fine-tuning (arXiv:2111.09886, appendix A.2).
        """
        depths = [len(stage.blocks) for stage in self.body.layers]
        deepest = sum(depths) + 1
        parts = name.removeprefix('body.').split('.')
        if parts[0] != 'layers':
            return (0 if parts[0] in ('patch_embed', 'positions', 'mask_token') else deepest), deepest
        block = int(parts[3]) + 1 if parts[2] == 'blocks' else 0
        return sum(depths[: int(parts[1])]) + block, deepest

    def _place(self, size: Sequence[int], packing: Packing | None) -> Tensor:
        """Return the positions of the embedding of images of this size, (1, h, w, C) or packed, (B, V*u, u, C)."""
        side = self._map_size(0, size)
        places = to_map(self.positions(side)[None], side)  # (1, C, h, w)
        count = 1 if packing is None else len(packing.ids)
        return pack(places.expand(count, -1, -1, -1), packing).permute(0, 2, 3, 1)

    def _levels(self, x: Tensor, size: Sequence[int], attentions: Sequence[StageAttention]) -> dict[int, Tensor]:
        """Run the stages.

        Args:
            x: Embedded images, packed (B, V*u, u, C) or whole (B, h, w, C).
            size: Pixels of the images.
            attentions: How the tokens of each stage see each other.

        Returns:
            The embedding (-1) and the output of each stage, (B, C_i, V*u, u).
        """
        levels = {-1: x}
        for i, (stage, attention) in enumerate(zip(self.body.layers, attentions, strict=True)):
            x = stage.downsample(x)
            for block, shift in zip(stage.blocks, self._shifts(i, size), strict=True):
                x = self.run(_run_block, block, x, attention[shift])
            levels[i] = x
        levels[len(self.body.layers) - 1] = self.body.norm(x)
        return {i: level.permute(0, 3, 1, 2) for i, level in levels.items()}

    def _attend_whole(self, i: int, size: Sequence[int], device: torch.device) -> StageAttention:
        """Make the attention of a stage within the windows of a whole map, for images of this size."""
        side, window = self._map_size(i, size), self.body.layers[i].blocks[0].attn.window_size
        shifts = set(self._shifts(i, size))
        masks = {shift: shift_mask(side, window, shift, device) for shift in shifts}
        return {shift: WindowAttention(swin_bias, side, window, shift, mask) for shift, mask in masks.items()}

    @torch.compiler.disable  # it waits for the device, once
    def _plan(self, cells: Cells, size: Sequence[int]) -> tuple[Packing, list[StageAttention]]:
        """Make the attention of the visible tokens of each stage within its windows, for images of this size."""
        packing, stages = cells.visible(), []
        held, device = packing._replace(ids=packing.ids.cpu()), packing.ids.device
        for i, stage in enumerate(self.body.layers):
            side, window = self._map_size(i, size), stage.blocks[0].attn.window_size
            plans = {shift: plan_windows(held, side, window, shift, device) for shift in set(self._shifts(i, size))}
            stages.append({s: WindowAttention(swin_bias, side, window, plan=plan) for s, plan in plans.items()})
        return packing, stages

    def _shifts(self, i: int, size: Sequence[int]) -> list[tuple[int, int]]:
        """Return the shift of each block of a stage: every second one shifts its windows, unless there is only one."""
        blocks = self.body.layers[i].blocks
        rows, columns = (
            w // 2 if n > w else 0 for n, w in zip(self._map_size(i, size), blocks[0].attn.window_size, strict=True)
        )
        return [(rows, columns) if k % 2 else (0, 0) for k in range(len(blocks))]

    def _map_size(self, i: int, size: Sequence[int]) -> tuple[int, int]:
        """Return rows and columns of the map of a stage, for images of this size."""
        stride = self.body.patch_embed.patch_size[0] << i
        return size[0] // stride, size[1] // stride


def _run_block(block: TimmModule, x: Tensor, attention: WindowAttention) -> Tensor:
    """Run timm's block on tokens (B, h, w, C), with our own attention; V1 normalizes before it, V2 after it."""
    if isinstance(block, SwinTransformerV2Block):
        x = x + block.drop_path1(block.norm1(attention(block.attn, x)))
        return x + block.drop_path2(block.norm2(block.mlp(x)))
    x = x + block.drop_path1(attention(block.attn, block.norm1(x)))
    return x + block.drop_path2(block.mlp(block.norm2(x)))
