"""Vision transformers of timm with rotary positions, such as DINOv3's, that compute only the visible tokens."""

from collections.abc import Sequence
from typing import Any

from timm.models.eva import Eva as TimmEva
from timm.models.eva import EvaBlock

from mae_toolkit.errors import UserError
from mae_toolkit.models.cells import Packing
from mae_toolkit.models.encoders.plain_transformer import (
    PlainTransformer,
    check_patches,
    choose_windows,
    set_norm_eps,
)
from mae_toolkit.models.encoders.timm_body import create_body
from mae_toolkit.models.layers.vit_blocks import Attention, Window, plan_rotary_attention
from mae_toolkit.registry import MODELS
from mae_toolkit.timm_models import TimmModule


@MODELS.register_module()
class Eva(PlainTransformer):
    """Any ``Eva`` of timm: DINOv3, EVA-02, Perception Encoder, RoPE-ViT and others with rotary positions.

    Hidden tokens are left out before the first block, or replaced by a mask token, as in
    :class:`~mae_toolkit.models.encoders.vit.ViT`. Queries and keys are rotated by the places of the tokens on the
    whole map, whether or not others are left out, and never those of class and register tokens. With nothing hidden
    and without windows the result equals timm's ``forward_intermediates``. Attention pooling, and any classifier, is
    left out.

    Images of any size are padded to whole patches. How rotations follow from the size is the architecture's: DINOv3
    counts places from -1 to 1 on each side, EVA-02 and Perception Encoder in patches of the images that they were
    trained on, RoPE-ViT in patches. For detectors (ViTDet, arXiv:2203.16527) attention can stay within windows in all
    but a few blocks, which then have no class and register tokens. Places are counted on the map within windows, too,
    so that each window computes what timm's network does if tokens of other windows are not seen.

    Args:
        arch: Name in timm, such as ``'vit_base_patch16_dinov3'`` or ``'eva02_base_patch14_224'``.
        in_chans: Channels of the images.
        img_size: Pixels for which a table of positions is stored, if the architecture has one beside the rotations; for
            any other size it is resized.
        mask_token: Put a learned token where it is hidden, and compute everything.
        window_size: Tokens per side of a window, to which attention is restricted; None for global attention.
        global_blocks: Blocks whose attention is global nevertheless.
        out_indices: Blocks whose output is returned, -1 for the embedded input; the last one if None. Blocks after the
            last index are not built.
        final_norm: Apply the architecture's last norm, if it has one, to each output, as timm's ``norm=True``.
        norm_eps: Epsilon of all norms; the architecture's own if None.
        frozen_stages: Freeze the embedding, all positions, and this many blocks after it; -1 for nothing.
        with_cp: Recompute the activations of the blocks in the backward pass to save memory.
        init_cfg: See :class:`Encoder`.
        **kwargs: Arguments of timm, such as ``patch_size``, ``depth``, ``embed_dim``, ``num_reg_tokens``,
            ``drop_path_rate``, ``rope_rescale_coords``; not what the encoder decides itself.

    Raises:
        UserError: If the architecture is unknown, heads have a number of channels that cannot be rotated, an index is
            out of range, or windows are asked of an architecture that cannot have them.
    """

    timm_classes = (TimmEva,)

    def __init__(
        self,
        arch: str = 'vit_base_patch16_dinov3',
        in_chans: int = 3,
        img_size: int | tuple[int, int] = 224,
        mask_token: bool = False,
        window_size: int | None = None,
        global_blocks: Sequence[int] | int = (),
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
        if window_size is not None:
            kwargs = dict(class_token=False, num_reg_tokens=0) | kwargs
        body = create_body(
            arch, self.timm_classes, 'vit_base_patch16_dinov3', dict(dynamic_img_size=True), in_chans=in_chans,
            img_size=img_size, **kwargs,
        )  # fmt: skip
        check_patches('Eva', arch, body)
        _check_heads(arch, body)
        if window_size is not None:
            _check_windows(window_size, arch, body)
        set_norm_eps(body, norm_eps)
        windows = choose_windows(len(body.blocks), window_size, global_blocks)
        self.set_transformer(body, in_chans, out_indices, final_norm, windows)
        self.set_mask_token(mask_token)
        self.freeze_blocks(frozen_stages)

    def attentions(self, packing: Packing | None, size: Window) -> list[Attention]:
        """Let tokens see each other on the map or within windows, rotated by their places on the map."""
        return plan_rotary_attention(self.body, packing, size, self.windows)


def _check_heads(arch: str, body: TimmModule) -> None:
    """Refuse heads that do not divide the channels, or whose channels are not pairs of pairs (row and column)."""
    for attn in (block.attn for block in body.blocks):
        heads, channels = attn.num_heads, attn.head_dim
        if heads * channels != body.embed_dim:
            raise UserError(f'{arch!r}: num_heads={heads} does not divide embed_dim={body.embed_dim}.')
        if body.rope is not None and channels % 4:
            raise UserError(
                f'{arch!r} rotates queries and keys, which needs a multiple of 4 channels per head, not '
                f'embed_dim={body.embed_dim} / num_heads={heads} = {channels}.'
            )


def _check_windows(window_size: int, arch: str, body: TimmModule) -> None:
    """Refuse windows where blocks or prefix tokens are not for them."""
    asked = f'window_size={window_size}'
    if not all(isinstance(block, EvaBlock) for block in body.blocks):
        raise UserError(f'{asked} is for blocks whose norms come first, which {arch!r} does not have.')
    if body.num_prefix_tokens:
        raise UserError(
            f'{asked} has no place for the {body.num_prefix_tokens} prefix tokens: set class_token=False and '
            'num_reg_tokens=0.'
        )
