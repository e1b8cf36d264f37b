"""Encoders as models of Hugging Face's transformers: their names, and the config.json from which it builds them."""

import importlib
import importlib.util
import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from timm.models import ConvNeXt, Eva, SwinTransformer, VisionTransformer
from torch import Tensor, nn

from mae_toolkit.checkpoints.names import BODY, Format
from mae_toolkit.checkpoints.names.dinov3 import HUGGING_FACE_DINOV3, HUGGING_FACE_DINOV3_SWIGLU
from mae_toolkit.checkpoints.names.huggingface import HF_CONVNEXT, HF_SWIN, HF_VIT, VITMAE
from mae_toolkit.errors import UserError
from mae_toolkit.export.difference import Difference, compare_maps
from mae_toolkit.export.huggingface_dinov3 import describe_dinov3, describe_patches, make_unused_mask_token
from mae_toolkit.export.preparation import Preparation
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.layers.positions import compute_sincos_positions
from mae_toolkit.timm_models import TimmModule

BICUBIC, BILINEAR = 3, 2  # of Pillow
KNOWN = 'VisionTransformer, DINOv3, SwinTransformer and ConvNeXt, V1 and V2'


@dataclass(frozen=True)
class HuggingFaceModel:
    """A model of transformers.

    Attributes:
        name: Name of its class.
        config: What its ``config.json`` says of the architecture.
        weights: The tensors by its names.
    """

    name: str
    config: dict[str, Any]
    weights: dict[str, Tensor]


def to_huggingface(state: Mapping[str, Tensor], encoder: Encoder, cfg: Config) -> HuggingFaceModel:
    """Rename a pretrained model for transformers: with MAE's decoder if it has that, else the encoder alone.

    Args:
        state: The weights by our names.
        encoder: The encoder that was trained.
        cfg: Config of the training.

    Raises:
        UserError: If transformers has no such network, or the encoder has a part that its class lacks.
    """
    body: TimmModule = getattr(encoder, 'body', None)
    describe = next((describe for kind, describe in _DESCRIPTIONS.items() if isinstance(body, kind)), None)
    if describe is None:
        raise UserError(
            f'{type(encoder).__name__}(arch={cfg.model.encoder.get("arch")!r}) has no place in the layout '
            f"'transformers', which has timm's {KNOWN}; --format timm takes all."
        )
    config, found = describe(body), {name: value for name, value in state.items() if name.startswith(BODY)}
    if cfg.model.encoder.get('window_size') and isinstance(body, VisionTransformer):
        raise UserError('A ViT with window_size has no place in transformers: --format safetensors keeps all of it.')
    if isinstance(body, VisionTransformer) and (whole := _find_whole_mae(state, cfg, encoder.grid)) is not None:
        extra, weights = whole
        return HuggingFaceModel('ViTMAEForPreTraining', config | extra, weights)
    form, name = _FORMATS[config['model_type']]
    form = HUGGING_FACE_DINOV3_SWIGLU if config.get('use_gated_mlp') else form
    weights = form.to_theirs(found, encoder.in_chans) | _make_last_norm(config)
    if form in (HUGGING_FACE_DINOV3, HUGGING_FACE_DINOV3_SWIGLU):
        weights |= make_unused_mask_token(body)
    positions = found.get(f'{BODY}pos_embed')
    if positions is not None and encoder.grid is not None and positions.shape[1] > math.prod(encoder.grid):
        weights['embeddings.position_embeddings'] = positions  # also where their number with the class token is square
    return HuggingFaceModel(name, config, weights)


def make_preprocessor_config(preparation: Preparation) -> dict[str, Any]:
    """Make what transformers reads from ``preprocessor_config.json``.

    Args:
        preparation: How images are prepared for the encoder.
    """
    timm = preparation.to_timm()
    size, crops = dict(zip(('height', 'width'), preparation.size, strict=True)), preparation.short_side is not None
    return dict(
        image_processor_type='BitImageProcessor',
        do_resize=True,
        size={'shortest_edge': preparation.short_side} if crops else size,
        resample=BICUBIC if preparation.interpolation == 'bicubic' else BILINEAR,
        do_center_crop=crops,
        crop_size=size,
        do_rescale=True,
        rescale_factor=1 / preparation.largest_value,
        do_normalize=True,
        image_mean=timm['mean'],
        image_std=timm['std'],
        do_convert_rgb=preparation.channels == 3,
    )


def _describe_vit(body: TimmModule) -> dict[str, Any]:
    if body.cls_token is None or body.num_prefix_tokens != 1:
        raise UserError(
            f'The ViT of transformers has one class token and no registers, and this one has {body.num_prefix_tokens} '
            'prefix tokens: --format timm takes them.'
        )
    block = body.blocks[0]
    norm = block.norm1 if isinstance(body.norm, nn.Identity) else body.norm
    return dict(
        model_type='vit',
        hidden_size=body.embed_dim,
        num_hidden_layers=len(body.blocks),
        num_attention_heads=block.attn.num_heads,
        intermediate_size=block.mlp.fc1.out_features,
        hidden_act='gelu',
        layer_norm_eps=norm.eps,
        **describe_patches(body),
        qkv_bias=block.attn.qkv.bias is not None,
    )


def _describe_swin(body: TimmModule) -> dict[str, Any]:
    blocks = [stage.blocks[0] for stage in body.layers]
    windows = {tuple(block.attn.window_size) for block in blocks}
    if len(windows) > 1 or len(set(*windows)) > 1:
        raise UserError(
            f'The windows of this Swin, {sorted(windows)}, are not the same in all stages, as they have to be in '
            'transformers: --format timm takes them.'
        )
    return dict(
        model_type='swin',
        **describe_patches(body),
        embed_dim=body.embed_dim,
        depths=[len(stage.blocks) for stage in body.layers],
        num_heads=[block.attn.num_heads for block in blocks],
        window_size=blocks[0].attn.window_size[0],
        mlp_ratio=blocks[0].mlp.fc1.out_features / blocks[0].mlp.fc1.in_features,
        qkv_bias=blocks[0].attn.qkv.bias is not None,
        layer_norm_eps=blocks[0].norm1.eps,
    )


def _describe_convnext(body: TimmModule) -> dict[str, Any]:
    blocks = [list(stage.blocks) for stage in body.stages]
    return dict(
        model_type='convnextv2' if hasattr(blocks[0][0].mlp, 'grn') else 'convnext',
        num_channels=body.stem[0].in_channels,
        patch_size=body.stem[0].stride[0],
        num_stages=len(blocks),
        hidden_sizes=[stage[-1].conv_dw.out_channels for stage in blocks],
        depths=[len(stage) for stage in blocks],
        hidden_act='gelu',
        layer_norm_eps=1e-6,
    )


_DESCRIPTIONS: dict[type, Callable[[TimmModule], dict[str, Any]]] = {
    VisionTransformer: _describe_vit,
    Eva: describe_dinov3,
    SwinTransformer: _describe_swin,
    ConvNeXt: _describe_convnext,
}
_FORMATS: dict[str, tuple[Format, str]] = {
    'vit': (HF_VIT, 'ViTModel'),
    'dinov3_vit': (HUGGING_FACE_DINOV3, 'DINOv3ViTModel'),
    'swin': (HF_SWIN, 'SwinModel'),
    'convnext': (HF_CONVNEXT, 'ConvNextModel'),
    'convnextv2': (HF_CONVNEXT, 'ConvNextV2Model'),
}


@torch.no_grad()
def compare_with_transformers(folder: str | Path, encoder: Encoder, size: tuple[int, int]) -> Difference | None:
    """Compare the last map of an encoder with that of the model that transformers builds from a folder, on noise.

    Args:
        folder: The folder.
        encoder: The encoder, whose norms of outputs are taken off, as only ours has them.
        size: Rows and columns of the images.

    Returns:
        The difference; None if transformers is not installed.
    """
    if importlib.util.find_spec('transformers') is None:
        return None
    transformers: Any = importlib.import_module('transformers')
    with _said_nothing(transformers.utils.logging):
        model = transformers.AutoModel.from_pretrained(str(folder)).eval()
    encoder.out_norms = nn.ModuleList(nn.Identity() for _ in encoder.out_channels)
    imgs = torch.randn(2, encoder.in_chans, *size, generator=torch.Generator().manual_seed(0))
    expected = encoder(imgs)[-1]
    given = {}
    if model.config.model_type == 'vit_mae':  # it hides and shuffles patches even then
        model.config.mask_ratio = 0.0
        given['noise'] = torch.arange(expected[0, 0].numel()).expand(2, -1)
    found = model(imgs, **given).last_hidden_state
    if found.dim() == 3:  # tokens, the class token first
        found = found[:, -expected[0, 0].numel() :].mT.reshape(expected.shape)
    return compare_maps([found], [expected])


@contextmanager
def _said_nothing(logging: Any) -> Iterator[None]:
    """Let transformers report nothing in a ``with`` block: that it does not build MAE's decoder is on purpose."""
    level = logging.get_verbosity()
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        logging.set_verbosity(level)
        logging.enable_progress_bar()


def _find_whole_mae(
    state: Mapping[str, Tensor], cfg: Config, grid: tuple[int, int] | None
) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
    """Return config and weights of MAE's encoder, decoder and head by their names; None if the model is another."""
    objectives = cfg.model.get('objectives') or {}
    pixels = [name for name, part in objectives.items() if (part.get('target') or {}).get('type') == 'PixelTarget']
    is_mae = pixels and (cfg.model.get('decoder') or {}).get('type') == 'TransformerDecoder'
    if not is_mae or 'decoder.embed.0.weight' not in state or grid is None or grid[0] != grid[1]:
        return None
    head = f'objectives.{pixels[0]}.head.'
    parts = {name: value for name, value in state.items() if name.startswith((BODY, 'decoder.', head))}
    try:
        weights = VITMAE.to_theirs(parts, _count_channels(state), pixels[0])
    except UserError:  # registers, learned positions of the decoder, fusion of levels
        return None
    embed, hidden = parts['decoder.embed.0.weight'], parts['decoder.blocks.0.mlp.fc1.weight']
    ratio = (cfg.model.get('masking') or {}).get('ratio')
    table = compute_sincos_positions(len(embed), grid)  # fixed, and read from the file nevertheless
    weights['decoder.decoder_pos_embed'] = torch.cat([torch.zeros(1, len(embed)), table])[None]
    return dict(
        model_type='vit_mae',
        decoder_hidden_size=len(embed),
        decoder_num_hidden_layers=len({name.split('.')[2] for name in parts if name.startswith('decoder.blocks.')}),
        decoder_num_attention_heads=cfg.model.decoder.get('num_heads', 16),
        decoder_intermediate_size=len(hidden),
        mask_ratio=ratio if isinstance(ratio, int | float) else 0.75,
        norm_pix_loss=bool(objectives[pixels[0]]['target'].get('norm_pix', False)),
    ), weights


def _count_channels(state: Mapping[str, Tensor]) -> int:
    return state[f'{BODY}patch_embed.proj.weight'].shape[1]


def _make_last_norm(config: Mapping[str, Any]) -> dict[str, Tensor]:
    """Make the norm that ConvNeXt has behind its pooling and pretraining lacks: one that changes nothing."""
    if 'hidden_sizes' not in config:
        return {}
    width = config['hidden_sizes'][-1]
    return {'layernorm.weight': torch.ones(width), 'layernorm.bias': torch.zeros(width)}
