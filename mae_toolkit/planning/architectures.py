"""What is known of an architecture of timm before it is trained: family, size, and cells of the mask."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Any

import timm
import torch

from mae_toolkit.checkpoints.encoder import check_pretrained
from mae_toolkit.checkpoints.hub_cache import parse_timm_name
from mae_toolkit.errors import UserError
from mae_toolkit.export.known_encoder import KnownEncoder
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.encoders.architectures import make_encoder_config
from mae_toolkit.planning.families import FAMILIES, Decoder, Family
from mae_toolkit.registry import build
from mae_toolkit.timm_models import is_architecture

MOST_OF_TINY, MOST_OF_SMALL = 12_000_000, 60_000_000  # parameters of an encoder, by which its decoder is chosen
# Arguments that a pretraining chooses by its images, its method and the network behind the encoder.
OF_PRETRAINING = ('type', 'arch', 'in_chans', 'img_size', 'out_indices', 'out_norms', 'mask_token', 'q_pool')
OF_TRAINING = ('init_cfg', 'frozen_stages', 'norm_eval')  # that say how an encoder was trained
STRIDES = (4, 8, 16, 32)  # of the maps of a CNN from which SparK's decoder makes a picture
LEAST_LEVELS = 3  # with such strides, by which a CNN differs from networks of one resolution


@dataclass(frozen=True)
class EncoderFacts:
    """What is known of an architecture before it is trained.

    Attributes:
        arch: Its name in timm.
        family: Its family.
        parameters: Number of parameters.
        unit: Pixels per side of a cell of the mask.
        levels: For a CNN, the levels whose strides are 4 to 32, as timm counts them; else None.
        known: What its weights say of it, if they do.
    """

    arch: str
    family: Family
    parameters: int
    unit: int
    levels: tuple[int, ...] | None = None
    known: KnownEncoder | None = None

    @property
    def arguments(self) -> dict[str, Any]:
        """Return the arguments in which it differs from timm's architecture, such as ``{'patch_size': 8}``."""
        return _list_arguments(self.known)

    @property
    def decoder(self) -> Decoder:
        """Return the decoder that fits its size."""
        size = sum(self.parameters > most for most in (MOST_OF_TINY, MOST_OF_SMALL))
        return self.family.decoders[size]


def look_up_encoder(arch: str, known: KnownEncoder | None = None) -> EncoderFacts:
    """Find family, size and mask unit of an architecture of timm.

    Args:
        arch: Its name, such as ``'convnextv2_tiny'``.
        known: What the weights say of the encoder; only what is of this architecture counts.

    Raises:
        UserError: If timm has no such architecture, or no encoder runs it.
    """
    check_architecture(arch)
    known = known if known is not None and known.config.get('arch') == arch else None
    config = _make_config(arch, _list_arguments(known))
    family = FAMILIES[config['type']]
    levels = config['out_indices'] if config['type'] == 'SparseCNN' else None
    with torch.device('meta'):
        encoder = build(Encoder, config)
    parameters = sum(parameter.numel() for parameter in encoder.parameters())
    return EncoderFacts(arch, family, parameters, encoder.mask_unit, levels, known)


def check_weights(encoder: EncoderFacts, weights: str, channels_rule: str | None = None) -> None:
    """Refuse weights that an encoder cannot begin its pretraining with, before any work.

    Args:
        encoder: The encoder.
        weights: ``[FORMAT:]FILE[#PART]``.
        channels_rule: How weights for another number of channels are converted.

    Raises:
        UserError: If there are none in the file, or they do not fit.
    """
    config = _make_config(encoder.arch, encoder.arguments)
    check_pretrained(build(Encoder, config), weights, channels=channels_rule or 'sum')


def _list_arguments(known: KnownEncoder | None) -> dict[str, Any]:
    if known is None:
        return {}
    left_out = (*OF_PRETRAINING, *OF_TRAINING, *(['final_norm'] if known.part else []))
    return {key: value for key, value in known.config.items() if key not in left_out}


def _make_config(arch: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Make the config of the encoder of a pretraining."""
    config = make_encoder_config(arch)
    is_cnn = config['type'] == 'SparseCNN'
    of_family = {'out_indices': _list_levels(arch)} if is_cnn else dict(FAMILIES[config['type']].arguments)
    return config | of_family | dict(arguments)


def check_architecture(arch: str) -> None:
    """Refuse what is no architecture of timm, with the nearest names, or with the way to name weights.

    Args:
        arch: What the user calls an architecture.

    Raises:
        UserError: If it is none.
    """
    if is_architecture(arch):
        return
    name, tag = parse_timm_name(arch)
    if is_architecture(name) and tag:
        raise UserError(
            f'--encoder {arch} names weights: give the architecture, --encoder {name}, and the weights by --from '
            f'timm:{name}.{tag}.'
        )
    near = get_close_matches(arch, timm.list_models(), 4, 0.5)
    hint = f': did you mean {", ".join(near)}?' if near else ': timm.list_models() lists all of them.'
    raise UserError(f'timm has no architecture {arch!r}{hint}')


def _list_levels(arch: str) -> tuple[int, ...]:
    """List the levels of a CNN that have the strides 4 to 32, the last of each stride."""
    with torch.device('meta'):
        body: Any = timm.create_model(arch, num_classes=0)
    info = [level for level in getattr(body, 'feature_info', []) if isinstance(level, dict) and 'reduction' in level]
    last = {level['reduction']: index for index, level in enumerate(info)}
    levels = tuple(sorted(last[stride] for stride in STRIDES if stride in last))
    if len(levels) < LEAST_LEVELS:
        raise UserError(
            f'{arch!r} is a {type(body).__name__} of timm, which no encoder of this toolkit runs on visible pixels '
            'alone: choose a ViT, ConvNeXt, Swin, Hiera or a CNN such as resnet50.'
        )
    return levels
