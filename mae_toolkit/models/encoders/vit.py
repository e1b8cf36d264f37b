"""Plain vision transformers of timm that compute only the visible tokens."""

from collections.abc import Sequence
from typing import Any

import torch
from timm.models.beit import Beit
from timm.models.vision_transformer import Block, VisionTransformer
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Packing
from mae_toolkit.models.encoders.plain_transformer import (
    PlainTransformer,
    check_patches,
    choose_windows,
    set_norm_eps,
)
from mae_toolkit.models.encoders.timm_body import create_body
from mae_toolkit.models.layers.init import init_transformer
from mae_toolkit.models.layers.positions import compute_sincos_positions
from mae_toolkit.models.layers.relative_positions import RelativePositions
from mae_toolkit.models.layers.vit_blocks import Attention, Window, plan_attention
from mae_toolkit.registry import MODELS
from mae_toolkit.timm_models import TimmModule, find_timm_class


@MODELS.register_module()
class ViT(PlainTransformer):
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

    timm_classes = (VisionTransformer, Beit)
    optional_keys = (*PlainTransformer.optional_keys, 'rel_pos.')

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
        self.with_cp = with_cp
        sizes = dict(in_chans=in_chans, img_size=img_size)
        body = _create(arch, norm_eps, windowed=window_size is not None, **sizes, **kwargs)
        if window_size is not None or rel_pos:
            _check_plain('rel_pos' if window_size is None else f'window_size={window_size}', arch, body)
        windows = choose_windows(len(body.blocks), window_size, global_blocks)
        self.set_transformer(body, in_chans, out_indices, final_norm, windows)
        self.architecture_names |= {'pos_embed'}  # files have it, also where pos_embed='none' leaves it out
        if rel_pos:
            self.rel_pos = nn.ModuleList(self._make_rel_pos())
        self._draw(positions)
        self.set_mask_token(mask_token)
        self.freeze_blocks(frozen_stages)

    def attentions(self, packing: Packing | None, size: Window) -> list[Attention]:
        """Let tokens see each other on the map or within windows, with BEiT's or ViTDet's relative positions."""
        return plan_attention(self.body, packing, size, self.windows, self.rel_pos)

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

    def _make_rel_pos(self) -> list[RelativePositions]:
        """Make relative positions for the window of each block, or for the map."""
        body = self.body
        head_dim = body.embed_dim // body.blocks[0].attn.num_heads if len(body.blocks) else 0
        return [RelativePositions(head_dim, window or self.grid) for window in self.windows]


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
    body = create_body(arch, ViT.timm_classes, 'vit_base_patch16', fixed=fixed, **kwargs)
    check_patches('ViT', arch, body)
    set_norm_eps(body, norm_eps)
    return body


def _check_plain(asked: str, arch: str, body: TimmModule) -> None:
    """Refuse what is asked of blocks or prefix tokens that it is not for."""
    if not all(type(b) is Block and getattr(b.attn, 'gate', None) is None for b in body.blocks):
        raise UserError(f'{asked} is for plain transformer blocks, which {arch!r} does not have.')
    if body.num_prefix_tokens:
        raise UserError(
            f'{asked} has no place for the {body.num_prefix_tokens} prefix tokens: set class_token=False and '
            'reg_tokens=0.'
        )


def _overrides(kind: type, name: str) -> bool:
    return getattr(kind, name, None) is not getattr(VisionTransformer, name)
