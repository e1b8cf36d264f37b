"""Encoders under timm's names, and timm's own model of them."""

import inspect
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mae_toolkit.checkpoints.names import BODY
from mae_toolkit.errors import UserError
from mae_toolkit.export.backbones import load_strictly
from mae_toolkit.models.encoders.timm_body import find_timm_arguments
from mae_toolkit.printing import format_count
from mae_toolkit.timm_models import find_timm_class

LAST_NORM = ('final_norm', 'use_post_transformer_norm')  # arguments of architectures of timm that may lack one


def to_timm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the encoder of one of our checkpoints to timm's names, by taking off one prefix.

    A last norm that timm's model has and pretraining lacks is added with unit scale and zero shift.

    Raises:
        UserError: If there is no encoder, or it has parts that timm's model lacks.
    """
    exported = {k.removeprefix(BODY): v for k, v in state.items() if k.startswith(BODY)}
    if not exported:
        raise UserError(
            f'The checkpoint holds no encoder: no name begins with {BODY!r}, as after pretraining; of a detector, '
            'export what it began with.'
        )
    relative = [k for k in state if k.startswith('encoder.rel_pos.')]
    if relative:
        raise UserError(f'The encoder has {len(relative)} tables of relative positions, which its model in timm lacks.')
    if 'encoder.positions.pos_embed' in state:
        raise UserError('The encoder has absolute positions (ape=True), which its model in timm lacks.')
    if 'rope.freqs' in exported:  # learned for all blocks of the architecture: keep those of the blocks that are built
        depth = len({name.split('.')[1] for name in exported if name.startswith('blocks.')})
        exported['rope.freqs'] = exported['rope.freqs'][:, :depth].clone()
    return exported | _make_last_norm(exported)


@dataclass(frozen=True)
class TimmModel:
    """timm's own model of an encoder.

    Attributes:
        arch: Name of the architecture.
        arguments: The arguments with which it is built.
        network: The model with the weights, in evaluation mode.
        weights: The weights by its names.
        lacking: Names of its tensors that the weights lack, as they are behind the last level of the encoder.
    """

    arch: str
    arguments: dict[str, Any]
    network: nn.Module
    weights: dict[str, Tensor]
    lacking: list[str]


def choose_timm_model(config: Mapping[str, Any], state: dict[str, Tensor], last: int) -> TimmModel:
    """Choose timm's model of an encoder: one vector per image, the average of its last map; else its maps.

    Many CNNs of timm have something behind their last feature level, such as the last convolution of an EfficientNet,
    which our pretraining does not train; then timm's model is built without it, and returns the maps of the levels.

    Args:
        config: Config of the encoder.
        state: The weights by timm's names.
        last: The last level of the encoder.

    Raises:
        UserError: If the weights do not fit the architecture, or timm's model cannot do without what they lack.
    """
    arch, given = find_timm_model(config, state)
    if any(given.get(name) is False for name in LAST_NORM):  # for models that always have it, one was added
        state = {name: value for name, value in state.items() if not name.startswith('norm.')}
    network, lacking = build_timm_model(arch, state, **given)
    ends = choose_features(arch, last, lacking, **given) if lacking else dict(num_classes=0) | choose_pooling(arch)
    return TimmModel(arch, given | ends, network.eval(), state, lacking)


def build_timm_model(arch: str, state: Mapping[str, Tensor], **kwargs: Any) -> tuple[nn.Module, list[str]]:
    """Build timm's own model of exported weights, which averages its last map.

    Layers that the encoder does not have, behind its last level, keep timm's random weights.

    Args:
        arch: Name of the architecture in timm.
        state: The weights by timm's names.
        **kwargs: Arguments of the architecture.

    Returns:
        The model, and the names of its tensors that the weights lack.

    Raises:
        UserError: If the weights have others than the architecture.
    """
    model = timm.create_model(arch, num_classes=0, **choose_pooling(arch), **kwargs)
    own = model.state_dict()
    load_strictly(model, {**own, **state}, f"timm's {arch}")
    return model, [name for name in own if name not in state]


def choose_features(arch: str, last: int, lacking: Sequence[str], **kwargs: Any) -> dict[str, Any]:
    """Return the arguments by which timm returns the maps of a model, without what comes behind them.

    Args:
        arch: Name of the architecture in timm.
        last: The last level.
        lacking: Names of the tensors behind it.
        **kwargs: Arguments of the architecture.

    Raises:
        UserError: If timm has no such model of the architecture.
    """
    features = dict(features_only=True, out_indices=list(range(last + 1)))
    # Some models always load so when they return features, and then refuse the argument.
    for strictness in ({'pretrained_strict': False}, {}):
        try:
            with torch.device('meta'):
                timm.create_model(arch, **features, **strictness, **kwargs)
        except (TypeError, RuntimeError):
            continue
        return features | strictness
    raise no_timm_model_error(arch, lacking)


def no_timm_model_error(arch: str, lacking: Sequence[str]) -> UserError:
    """Return the error for an encoder whose features no model of timm gives.

    Args:
        arch: Name of the architecture in timm.
        lacking: Names of the tensors that timm's model has and the encoder lacks.
    """
    return UserError(
        f"timm's {arch} cannot run without {format_count(len(lacking), 'tensor')} that the encoder lacks, such as "
        f'{lacking[0]}, and its features_only=True does not give the maps of the encoder: load_encoder(RUN) of '
        'mae_toolkit gives them, and --format safetensors writes the weights; ResNet, EfficientNet, ConvNeXt, ViT, '
        'Swin and most others can be exported for timm.'
    )


def find_timm_model(config: Mapping[str, Any], state: Mapping[str, Tensor]) -> tuple[str, dict[str, Any]]:
    """Find the architecture of timm, and its arguments, of an encoder's config and weights.

    A ViT whose last blocks were not built has fewer there, and one without a last norm has none.

    Args:
        config: Config of the encoder.
        state: The weights by timm's names.
    """
    arch, given = find_timm_arguments(config)
    known = inspect.signature(find_timm_class(arch, '').__init__).parameters
    if 'depth' in known and config.get('out_indices') is not None:
        given['depth'] = len({name.split('.')[1] for name in state if name.startswith('blocks.')})
    if not config.get('final_norm', True):
        given |= {name: False for name in LAST_NORM if name in known}
    if 'class_token' in known and config.get('window_size') is not None:
        given.setdefault('class_token', False)
    return arch, given


def choose_pooling(arch: str) -> dict[str, Any]:
    """Return the arguments by which timm averages the last map, whose norm stays before the pooling.

    Reconstruction does not train a class token to represent the image, so it is left out.
    """
    known = inspect.signature(find_timm_class(arch, '').__init__).parameters
    return dict(global_pool='avg') | {name: False for name in ('fc_norm', 'use_fc_norm') if name in known}


def _make_last_norm(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make the last norm that an encoder lacks and its architecture has in timm: one that changes nothing."""
    fresh = {'weight': torch.ones_like, 'bias': torch.zeros_like}
    if {'norm.weight', 'norm_pre.weight'} & state.keys():
        return {}
    is_hiera = any(re.fullmatch(r'blocks\.\d+\.proj\.weight', name) for name in state)
    if is_hiera or 'stages.0.blocks.0.conv_dw.weight' in state:  # Hiera and ConvNeXt have it behind the pooling
        widths = [tensor for name, tensor in state.items() if name.endswith('.mlp.fc2.bias')]
        return {f'head.norm.{name}': fresh[name](widths[-1]) for name in fresh} if widths else {}
    like = {name: state.get(f'blocks.0.norm1.{name}') for name in fresh}
    return {f'norm.{name}': fresh[name](tensor) for name, tensor in like.items() if tensor is not None}
