"""Put any encoder into any downstream config."""

import inspect
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config

from mae_toolkit.downstream.necks import (
    FeatureShapes,
    candidate_necks,
    find_indexed_heads,
    is_compatible,
    maps_read_by_heads,
    measure_backbone,
    measure_neck,
    no_neck_error,
    remap_heads,
)
from mae_toolkit.errors import UserError
from mae_toolkit.models import Classifier
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.registry import MODELS, SCOPE, build, find_class, list_arguments, list_names
from mae_toolkit.timm_models import find_timm_class, is_architecture

# What an encoder inherits from the one that it replaces, unless its own config sets it.
INHERITED = ('out_norms', 'drop_path_rate')


def known_encoders() -> list[str]:
    """Return the names of all encoders, for the ``type`` of their configs."""
    return list_names(Encoder)


def fit_encoder(
    cfg: Config,
    encoder: Mapping[str, Any],
    checkpoint: str | Path | None = None,
    channels_rule: str | None = None,
) -> Config:
    """Put an encoder into a downstream config, with a neck that gives the heads maps of the strides that they had.

    Example::

        cfg = load_config('configs/detection/mask-rcnn_vit-t_500s_dsb2018.py')
        cfg = fit_encoder(cfg, dict(type='ConvNeXt', arch='convnextv2_atto'), 'work_dirs/fcmae/epoch_1600.pth')

    **Levels.** The encoder gives the last of its levels of each stride, up to the last one that its own ``out_indices``
    name. An encoder of a single stride gets a :class:`SimplePyramid`; where the config has such a pyramid, an encoder
    of many strides gets an FPN. Maps that are coarser than all levels are pooled from the last one. Parts of the
    encoder that only hidden cells need are left out, see :meth:`Encoder.downstream`.

    **Norms.** ``out_norms`` and ``drop_path_rate`` are those of the config's backbone, unless ``encoder`` sets them.
    An encoder whose levels have norms of their own is built without its final norm. A classifier has one layer norm
    between the last block and its linear layer, or the config's batch norm: with ``head_norm`` it follows the pooling
    and is newly initialized, and the encoder is built without its final norm; without ``head_norm`` the encoder has its
    own, or else ``head_norm`` is set.

    Args:
        cfg: Config of MMDetection, of MMSegmentation, or of a :class:`Classifier`; it is not changed.
        encoder: Config of the encoder, as in a pretraining config.
        checkpoint: A training checkpoint, an exported encoder or weights of timm; None to train from scratch.
        channels_rule: Rule for weights of images with other channels, see :mod:`mae_toolkit.checkpoints.channels`.

    Returns:
        A config that differs only in ``model``.

    Raises:
        UserError: If the type or the architecture is unknown, or no neck makes the strides that the heads read.
    """
    cfg = deepcopy(cfg)
    config, probe = for_downstream(encoder)
    rule = {} if channels_rule is None else {'channels': channels_rule}
    config['init_cfg'] = None if checkpoint is None else dict(type='Pretrained', checkpoint=str(checkpoint), **rule)
    scope = cfg.get('default_scope', SCOPE)
    if scope != SCOPE:
        _replace_backbone(cfg.model, config, probe, scope)
    elif 'encoder' in cfg.model and _is_classifier(cfg.model.get('type')):
        _replace_encoder_of_classifier(cfg.model, config, probe)
    else:
        raise UserError(
            f'The config trains a {cfg.model.get("type", "model")}, and is not a downstream config: give one of a '
            'Classifier, or of default_scope mmdet or mmseg.'
        )
    return cfg


def _is_classifier(kind: Any) -> bool:
    """Return whether the type of a model's config is :class:`Classifier` or a subclass, by name or as a class."""
    cls = MODELS.get(kind) if isinstance(kind, str) else kind
    return isinstance(cls, type) and issubclass(cls, Classifier)


def for_downstream(encoder: Mapping[str, Any]) -> tuple[dict[str, Any], Encoder]:
    """Return the config of an encoder for downstream use, and that encoder with all its pretrained levels."""
    config = dict(encoder)
    if isinstance(config.get('type'), str):
        config['type'] = config['type'].removeprefix(f'{SCOPE}.')
    indices = config.get('out_indices')
    config = find_class(Encoder, config).downstream(config)
    if indices is None:
        last = _build_without_memory(config).num_levels - 1
    else:
        last = _find_last_level((indices,) if isinstance(indices, int) else indices)
    return config, _build_without_memory(find_class(Encoder, config).select_levels(config, range(last + 1)))


def _find_last_level(indices: Any) -> int:
    if not isinstance(indices, list | tuple) or not indices or not all(isinstance(i, int) for i in indices):
        raise UserError(f'out_indices={indices!r} must be a list of level numbers, from 0 on.')
    return max(0, *indices)


def _build_without_memory(config: Mapping[str, Any]) -> Encoder:
    with torch.device('meta'):
        return build(Encoder, config)


def _inherit(config: dict[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Add what the replaced encoder had and the new one accepts but does not set.

    Args:
        config: Config of the new encoder.
        own: Config of the encoder that it replaces.
    """
    accepted = _list_accepted(config)
    return config | {key: own[key] for key in INHERITED if key in own and key not in config and key in accepted}


def _list_accepted(config: Mapping[str, Any]) -> list[str]:
    """List the arguments of an encoder, and those of timm's architecture if it passes arguments on to one."""
    cls = find_class(Encoder, config)
    own = inspect.signature(cls.__init__).parameters
    arch = config.get('arch', own['arch'].default) if 'arch' in own else None
    passes_on = any(p.kind is p.VAR_KEYWORD for p in own.values())
    passed_on = list_arguments(find_timm_class(arch, '')) if passes_on and is_architecture(arch) else []
    return list_arguments(cls) + passed_on


def _replace_encoder_of_classifier(model: Any, config: dict[str, Any], probe: Encoder) -> None:
    """Replace the encoder in the config of a classifier, in place."""
    config.pop('out_norms', None)
    config = _inherit(config, {key: value for key, value in model.encoder.items() if key != 'out_norms'})
    if model.get('head_norm'):
        config |= {'final_norm': False} if 'final_norm' in list_arguments(type(probe)) else {}
    elif not model.get('batch_norm'):
        model.head_norm = not probe.ends_with_norm
    if model.get('pooling') == 'class' and not probe.has_class_token:
        model.pooling = 'mean'
    model.encoder = type(probe).select_levels(config, probe.out_indices[-1:])


def _replace_backbone(model: Any, config: dict[str, Any], probe: Encoder, scope: str) -> None:
    """Replace the backbone in the config of a detector or segmenter, in place."""
    necks = model.get('neck')
    if necks is None and not find_indexed_heads(model):
        raise UserError(f'The {model.type} has no neck that could take other channels: choose a config with an FPN.')
    own = measure_backbone(model.backbone, scope)
    neck, *others = necks if isinstance(necks, list | tuple) else [necks]
    before = measure_neck(neck, own, scope)
    levels = FeatureShapes(tuple(probe.out_strides), tuple(probe.out_channels))
    seen = maps_read_by_heads(model, before)
    for plan in candidate_necks(own, seen, neck, levels):
        after = measure_neck(plan.neck, levels.select(plan.indices), scope)
        if is_compatible(model, before, seen, after):
            break
    else:
        raise no_neck_error(config['type'], seen, levels)
    from_one_stride_to_many = len(set(own.strides)) == 1 < len(plan.indices) and plan.neck is not None
    defaults = {'out_norms': True} if from_one_stride_to_many else {}  # plain transformers have no such argument
    config = _inherit(config, defaults | dict(model.backbone))
    if config.get('out_norms') and 'final_norm' in list_arguments(type(probe)):
        config['final_norm'] = False  # or two norms would follow each other
    model.backbone = type(probe).select_levels(config, plan.indices) | {'type': f'{SCOPE}.{config["type"]}'}
    if necks is not None or plan.neck is not None:
        model.neck = [plan.neck, *others] if others else plan.neck
    remap_heads(model, before, after)
