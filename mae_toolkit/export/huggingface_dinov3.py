"""DINOv3 as transformers has it: what its config.json says of timm's model."""

from typing import Any

import torch
from timm.layers import Mlp, RotaryEmbeddingDinoV3, SwiGLU
from timm.models.eva import EvaAttention, EvaBlock
from torch import Tensor, nn

from mae_toolkit.errors import UserError
from mae_toolkit.timm_models import TimmModule


def describe_dinov3(body: TimmModule) -> dict[str, Any]:
    """Describe timm's ``Eva`` in the words of transformers' ``DINOv3ViTConfig``.

    Raises:
        UserError: If it has other parts than DINOv3 has.
    """
    block, rope = body.blocks[0], body.rope
    lacking = [part for part, is_there in _list_parts(body, block).items() if not is_there]
    if lacking:
        raise UserError(
            f'Of the networks with rotary positions transformers has DINOv3, and this one lacks {", ".join(lacking)} '
            'of it: --format timm takes it.'
        )
    gated = isinstance(block.mlp, SwiGLU)
    return dict(
        model_type='dinov3_vit',
        **describe_patches(body),
        hidden_size=body.embed_dim,
        intermediate_size=block.mlp.fc2.in_features,
        num_hidden_layers=len(body.blocks),
        num_attention_heads=block.attn.num_heads,
        num_register_tokens=body.reg_token.shape[1],
        hidden_act='silu' if gated else 'gelu',
        use_gated_mlp=gated,
        query_bias=block.attn.q_bias is not None,
        key_bias=False,
        value_bias=block.attn.v_bias is not None,
        layer_norm_eps=body.norm.eps,
        rope_theta=rope.temperature,
        pos_embed_rescale=rope.rescale_coords,
    )


def describe_patches(body: TimmModule) -> dict[str, Any]:
    """Describe images and patches in the words that transformers has for all transformers of images.

    Args:
        body: A network of timm with a ``patch_embed``.
    """
    rows, columns = body.patch_embed.img_size
    return dict(
        image_size=rows if rows == columns else [rows, columns],
        patch_size=body.patch_embed.patch_size[0],
        num_channels=body.patch_embed.proj.in_channels,
    )


def make_unused_mask_token(body: TimmModule) -> dict[str, Tensor]:
    """Make the mask token that each DINOv3 of transformers has, and none needs for whole images."""
    return {'embeddings.mask_token': torch.zeros(1, 1, body.embed_dim)}


def _list_parts(body: TimmModule, block: TimmModule) -> dict[str, bool]:
    """List the parts of DINOv3, and whether a network has them and no others."""
    attn, mlp, rope = block.attn, block.mlp, body.rope
    plain = isinstance(block, EvaBlock) and isinstance(attn, EvaAttention) and attn.gate is None
    norms = (body.norm_pre, attn.norm, attn.q_norm, mlp.norm)
    return {
        'its rotations': isinstance(rope, RotaryEmbeddingDinoV3) and rope.rotate_half and body.pos_embed is None,
        'its class and register tokens': body.cls_token is not None and body.reg_token is not None,
        'its layer scale': getattr(block, 'gamma_1', None) is not None and getattr(block, 'gamma_2', None) is not None,
        'its attention': plain and attn.qkv is not None,
        'its MLP': isinstance(mlp, Mlp | SwiGLU),
        'its norms': isinstance(body.norm, nn.LayerNorm) and all(isinstance(norm, nn.Identity) for norm in norms),
    }
