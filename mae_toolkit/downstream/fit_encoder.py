"""Put any encoder into any downstream config."""

import inspect
from copy import deepcopy

import torch

from mae_toolkit.downstream.necks import (
    FeatureShapes,
    backbone_maps,
    candidate_necks,
    heads_of,
    is_compatible,
    maps_read_by_heads,
    neck_maps,
    no_neck_error,
    remap_heads,
)
from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.registry import SCOPE, build, find_class, list_arguments, list_names
from mae_toolkit.timm_models import class_of, is_architecture

# What an encoder takes over from the one in whose place it stands, unless it says otherwise itself.
TAKEN_OVER = ('out_norms', 'drop_path_rate')


def known_encoders():
    """Names of the encoders, for the ``type`` of their configs."""
    return list_names(Encoder)


def fit_encoder(cfg, encoder, checkpoint=None):
    """A downstream config with another encoder.

    The heads see maps of the strides that they had. An encoder gives the last of its levels of each stride, up to the
    last that its own ``out_indices`` name. One of a single stride gets a :class:`SimplePyramid`; where the config has
    such a pyramid, one of many strides gets an FPN. Coarser maps than there are follow from the last by pooling. What
    is for hidden cells alone is left out of the encoder, see :meth:`Encoder.downstream`.

    ``out_norms`` and ``drop_path_rate`` are those of the config's own backbone, unless ``encoder`` sets them. Where its
    levels have norms of their own, an encoder is built without its last one.

    A classifier has one layer norm between the last block and its linear layer, or the config's batch norm: with
    ``head_norm`` it is after pooling and drawn anew, and the encoder is built without its own last norm; without, the
    encoder has its own, or else there is a ``head_norm``.

    Args:
        cfg (Config): Of MMDetection, of MMSegmentation, or of a :class:`Classifier`; not changed.
        encoder (dict): As in a pretraining config: ``dict(type='ConvNeXt', arch='convnextv2_atto')``.
        checkpoint (str | Path | None): A training checkpoint, an exported encoder or timm's weights; None to begin from
            scratch.

    Returns:
        Config: The same but for ``model``.

    Raises:
        UserError: If the type or architecture is unknown, or the strides do not fit, with both.
    """
    cfg = deepcopy(cfg)
    config, probe = _downstream(encoder)
    loaded = None if checkpoint is None else dict(type='Pretrained', checkpoint=str(checkpoint))
    scope = cfg.get('default_scope', SCOPE)
    if scope != SCOPE:
        _into_backbone(cfg.model, config | {'init_cfg': loaded}, probe, scope)
    elif 'encoder' in cfg.model and cfg.model.get('type') == 'Classifier':
        _into_classifier(cfg.model, config | {'init_cfg': loaded}, probe)
    else:
        raise UserError(
            f'The config trains a {cfg.model.get("type", "model")}, and is no downstream config: give one of a '
            'Classifier, or of default_scope mmdet or mmseg.'
        )
    return cfg


def _downstream(encoder):
    """The config of an encoder for downstream use, and the encoder of it with all levels that are pretrained."""
    config = dict(encoder)
    if isinstance(config.get('type'), str):
        config['type'] = config['type'].removeprefix(f'{SCOPE}.')
    indices = config.get('out_indices')
    config = find_class(Encoder, config).downstream(config)
    if indices is None:
        last = _on_meta(config).num_levels - 1
    else:
        last = _last_of((indices,) if isinstance(indices, int) else indices)
    return config, _on_meta(config | {'out_indices': tuple(range(last + 1))})


def _last_of(indices):
    """The greatest of the numbers of levels."""
    if not isinstance(indices, list | tuple) or not indices or not all(isinstance(i, int) for i in indices):
        raise UserError(f'out_indices={indices!r} are no numbers of levels: give a list of them, from 0 on.')
    return max(0, *indices)


def _on_meta(config):
    """An encoder without memory for its weights."""
    with torch.device('meta'):
        return build(Encoder, config)


def _taken_over(config, own):
    """The config with what the own encoder had and this one, or timm's architecture in it, takes and does not set."""
    takes = _takes(config)
    return config | {key: own[key] for key in TAKEN_OVER if key in own and key not in config and key in takes}


def _takes(config):
    """Names of the arguments of an encoder, and of timm's architecture if it passes arguments on to one."""
    kind = find_class(Encoder, config)
    own = inspect.signature(kind.__init__).parameters
    arch = config.get('arch', own['arch'].default) if 'arch' in own else None
    passes_on = any(p.kind is p.VAR_KEYWORD for p in own.values())
    return list_arguments(kind) + (list_arguments(class_of(arch, '')) if passes_on and is_architecture(arch) else [])


def _into_classifier(model, config, probe):
    """Let an encoder stand in a classifier, in place."""
    config.pop('out_norms', None)
    config = _taken_over(config, {key: value for key, value in model.encoder.items() if key != 'out_norms'})
    if model.get('head_norm'):
        config |= {'final_norm': False} if 'final_norm' in list_arguments(type(probe)) else {}
    elif not model.get('batch_norm'):
        model.head_norm = not probe.ends_with_norm
    if model.get('pooling') == 'class' and not probe.has_class_token:
        model.pooling = 'mean'
    model.encoder = config | {'out_indices': probe.out_indices[-1:]}


def _into_backbone(model, config, probe, scope):
    """Let an encoder stand in a detector or segmenter, in place."""
    necks = model.get('neck')
    if necks is None and not heads_of(model):
        raise UserError(f'The {model.type} has no neck that could take other channels: choose a config with an FPN.')
    own = backbone_maps(model.backbone, scope)
    neck, *others = necks if isinstance(necks, list | tuple) else [necks]
    before, levels = neck_maps(neck, own, scope), FeatureShapes(tuple(probe.out_strides), tuple(probe.out_channels))
    seen = maps_read_by_heads(model, before)
    for fit in candidate_necks(own, seen, neck, levels):
        after = neck_maps(fit.neck, levels.take(fit.indices), scope)
        if is_compatible(model, before, seen, after):
            break
    else:
        no_neck_error(config['type'], seen, levels)
    to_many = len(set(own.strides)) == 1 < len(fit.indices) and fit.neck is not None
    lacking = {'out_norms': True} if to_many else {}  # of plain transformers, which have no such argument
    config = _taken_over(config, lacking | dict(model.backbone))
    if config.get('out_norms') and 'final_norm' in list_arguments(type(probe)):
        config['final_norm'] = False  # not two after each other
    model.backbone = config | {'type': f'{SCOPE}.{config["type"]}', 'out_indices': fit.indices}
    if necks is not None or fit.neck is not None:
        model.neck = [fit.neck, *others] if others else fit.neck
    remap_heads(model, before, after)
