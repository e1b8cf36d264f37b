"""What stands between a backbone and the heads of a detector or segmenter, so that these see maps as before."""

import inspect
from math import log2
from typing import NamedTuple

import torch
from mmengine.registry import DefaultScope

from mae_toolkit.config.checks import registry_of
from mae_toolkit.errors import UserError
from mae_toolkit.models.necks import SimplePyramid
from mae_toolkit.protocols import DescribesMaps

DEFAULT_SCALES = inspect.signature(SimplePyramid).parameters['scales'].default
SIDE = 2048  # pixels of the images, without memory, on which strides are measured


class FeatureShapes(NamedTuple):
    """What heads are given.

    Attributes:
        strides: Of each map, in pixels.
        channels: Of each map.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]

    def last(self):
        """The index of the last map of each stride, by stride."""
        return {stride: i for i, stride in enumerate(self.strides)}

    def take(self, indices):
        """These of the maps."""
        return FeatureShapes(tuple(self.strides[i] for i in indices), tuple(self.channels[i] for i in indices))

    def __str__(self):
        """Strides."""
        return ', '.join(map(str, self.strides))


class NeckPlan(NamedTuple):
    """How an encoder stands in a model.

    Attributes:
        indices: Levels of the encoder, for its ``out_indices``.
        neck: Config of what comes between, or None.
    """

    indices: tuple[int, ...]
    neck: dict | None


def candidate_necks(own, seen, neck, levels):
    """Ways to give heads the maps that they had, the best first.

    Args:
        own (FeatureShapes): What the model's own backbone returns.
        seen (FeatureShapes): What the heads read of what follows it.
        neck (dict | None): Config of the model's own neck.
        levels (FeatureShapes): All levels of the new encoder.

    Yields:
        NeckPlan: Ways that may fail when they are measured.
    """
    last = levels.last()
    plain, was_plain = len(last) == 1, len(set(own.strides)) == 1
    if plain and was_plain and own.strides[0] in last and len(own.strides) <= len(levels.strides):
        yield _with(neck, levels, spread(len(own.strides), len(levels.strides)))
    wanted = sorted(set(seen.strides)) if neck is None or was_plain else own.strides
    known = [stride for stride in wanted if stride in last]
    if neck is None and known == wanted:
        yield NeckPlan(tuple(last[stride] for stride in wanted), None)
    if plain:
        pyramid = _pyramid(own, seen, neck, levels)
        if all(log2(scale).is_integer() for scale in pyramid.neck['scales']):
            yield pyramid
    elif known == list(wanted[: len(known)]) and known:  # coarser maps follow from the last of these
        indices = tuple(last[stride] for stride in known)
        yield _fpn(seen, neck, levels, indices) if neck is None or was_plain else _with(neck, levels, indices)


def spread(count, depth):
    """So many of ``depth`` levels, at equal distances, the last among them."""
    return tuple(round(depth * (i + 1) / count) - 1 for i in range(count))


def _with(neck, levels, indices):
    """The model's own neck, told the channels under the name by which it asks for them."""
    if neck is None:
        return NeckPlan(indices, None)
    channels = list(levels.take(indices).channels)
    if isinstance(neck.get('in_channels'), list | tuple):
        return NeckPlan(indices, neck | {'in_channels': channels})
    return NeckPlan(indices, neck | {'embed_dim' if 'embed_dim' in neck else 'in_channels': channels[-1]})


def _pyramid(own, seen, neck, levels):
    """A pyramid from the last map: as many scales as the backbone or its pyramid had maps, the others by pooling."""
    stride, width = levels.strides[-1], levels.channels[-1]
    strides, coarsest = sorted(set(seen.strides)), max(own.strides)
    if neck is None:
        coarsest = strides[-1]
    elif len(set(own.strides)) == 1:
        coarsest /= min(neck.get('scales') or neck.get('rescales') or DEFAULT_SCALES)
    scales = [s for s in strides if s <= coarsest]
    return NeckPlan(
        (len(levels.strides) - 1,),
        dict(
            type='mae_toolkit.SimplePyramid',
            in_channels=width,
            out_channels=(neck or {}).get('out_channels', width),
            scales=tuple(stride / s for s in scales),
            num_outs=len(strides),
        ),
    )


def _fpn(seen, neck, levels, indices):
    """A feature pyramid over maps of a backbone, with as many outputs as the heads had."""
    channels = list(levels.take(indices).channels)
    width = (neck or {}).get('out_channels', channels[-1])
    return NeckPlan(
        indices, dict(type='FPN', in_channels=channels, out_channels=width, num_outs=len(set(seen.strides)))
    )


def backbone_maps(config, scope):
    """What a backbone of a scope returns; without memory for it."""
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'), torch.no_grad():
        kept = {key: value for key, value in config.items() if key not in ('init_cfg', 'pretrained')}
        if isinstance(config.get('pretrained'), bool):  # that of timm's in MMSegmentation, True by default
            kept['pretrained'] = False
        network = registry_of(scope, 'MODELS').build(kept)
        network.eval()
        if isinstance(network, DescribesMaps):
            return FeatureShapes(tuple(network.out_strides), tuple(network.out_channels))
        channels = config.get('in_channels', 3)
        return _measured(network(torch.empty(1, channels, SIDE, SIDE)))


def neck_maps(config, maps, scope):
    """What a neck of a scope makes of maps; without memory for it. No neck changes nothing."""
    if config is None:
        return maps
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'), torch.no_grad():
        neck = registry_of(scope, 'MODELS').build(dict(config))
        neck.eval()
        sides = [SIDE // stride for stride in maps.strides]
        return _measured(neck([torch.empty(1, c, n, n) for c, n in zip(maps.channels, sides, strict=True)]))


def _measured(maps):
    maps = (maps,) if isinstance(maps, torch.Tensor) else maps
    return FeatureShapes(tuple(SIDE // x.shape[-1] for x in maps), tuple(x.shape[1] for x in maps))


def heads_of(model):
    """The heads of a segmenter, which pick maps by ``in_index``; a detector has none such."""
    heads = (model.get(key) for key in ('decode_head', 'auxiliary_head'))
    return [one for head in heads if head for one in (head if isinstance(head, list | tuple) else [head])]


def maps_read_by_heads(model, maps):
    """Those of the maps that the heads of a segmenter read; a detector reads all."""
    heads = heads_of(model)
    if not heads:
        return maps
    return maps.take(sorted({i % len(maps.strides) for head in heads for i in _indices(head)}))


def remap_heads(model, before, after):
    """Let the heads of a segmenter read the maps of the same strides as before, in place.

    FeatureShapes of equal strides and number are read by the same numbers.
    """
    same = before.strides == after.strides
    for head in heads_of(model):
        many = isinstance(head.get('in_index', -1), list | tuple)
        indices = [i if same else after.last()[before.strides[i]] for i in _indices(head)]
        channels = [after.channels[i] for i in indices]
        head['in_index'], head['in_channels'] = (indices, channels) if many else (indices[0], channels[0])


def _indices(head):
    index = head.get('in_index', -1)
    return list(index) if isinstance(index, list | tuple) else [index]


def is_compatible(model, before, seen, after):
    """Whether maps can stand in for those before: a segmenter's heads take other channels, a detector's do not."""
    if heads_of(model):
        return after.strides == before.strides or set(seen.strides) <= set(after.strides)
    return after == before


def no_neck_error(name, seen, levels):
    """Say that maps do not fit, with their strides."""
    offered = ', '.join(map(str, sorted(set(levels.strides))))
    raise UserError(
        f'The heads of the config read maps of strides {seen}, and the {name} gives strides {offered}: choose an '
        'encoder that has the finest of them or one stride alone, or a config for the strides of the encoder.'
    )
