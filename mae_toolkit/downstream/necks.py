"""Choose the neck between a new backbone and the heads of a detector or segmenter, so that heads see maps as before."""

import inspect
from collections.abc import Iterator, Mapping, Sequence
from math import ceil, log2
from typing import Any, NamedTuple

import torch
from mmengine.registry import DefaultScope
from torch import Tensor

from mae_toolkit.config.checks import get_registry
from mae_toolkit.errors import UserError
from mae_toolkit.models.necks import SimplePyramid
from mae_toolkit.protocols import DescribesMaps

DEFAULT_SCALES = inspect.signature(SimplePyramid).parameters['scales'].default
SIDE = 2048  # pixels of the images, without memory, on which strides are measured


class FeatureShapes(NamedTuple):
    """Strides and channels of feature maps.

    Attributes:
        strides: Stride of each map, in pixels.
        channels: Channels of each map.
    """

    strides: tuple[int, ...]
    channels: tuple[int, ...]

    def last_of_stride(self) -> dict[int, int]:
        """Return the index of the last map of each stride."""
        return {stride: i for i, stride in enumerate(self.strides)}

    def select(self, indices: Sequence[int]) -> 'FeatureShapes':
        """Return the shapes of some of the maps.

        Args:
            indices: Which maps.
        """
        return FeatureShapes(tuple(self.strides[i] for i in indices), tuple(self.channels[i] for i in indices))

    def __str__(self) -> str:
        return ', '.join(map(str, self.strides))


class NeckPlan(NamedTuple):
    """A choice of levels and neck with which an encoder may fit a detector or segmenter.

    Attributes:
        indices: Levels that the encoder returns, for its ``out_indices``.
        neck: Config of the neck, or None for none.
    """

    indices: tuple[int, ...]
    neck: dict[str, Any] | None


def candidate_necks(
    own: FeatureShapes, seen: FeatureShapes, neck: dict[str, Any] | None, levels: FeatureShapes
) -> Iterator[NeckPlan]:
    """Propose necks that give the heads maps of the strides that they had, the best first.

    Example: the heads of a Mask R-CNN read strides 4 to 64 from an FPN. For a ConvNeXt, whose levels have strides 4 to
    32, the FPN is kept with other input channels. For a ViT, all of whose levels have stride 16, a
    :class:`SimplePyramid` makes them from the last level; if they have stride 14, from that level resized to stride 16.

    Args:
        own: Maps of the model's present backbone.
        seen: Maps that the heads read, after the present neck.
        neck: Config of the present neck, or None.
        levels: All levels of the new encoder.

    Yields:
        Plans, which may still fail when the maps of their necks are measured.
    """
    last = levels.last_of_stride()
    is_plain, was_plain = len(last) == 1, len(set(own.strides)) == 1
    if is_plain and was_plain and own.strides[0] in last and len(own.strides) <= len(levels.strides):
        yield _keep_neck(neck, levels, spread_levels(len(own.strides), len(levels.strides)))
    wanted = sorted(set(seen.strides)) if neck is None or was_plain else own.strides
    known = [stride for stride in wanted if stride in last]
    if neck is None and known == wanted:
        yield NeckPlan(tuple(last[stride] for stride in wanted), None)
    if is_plain:
        pyramid, scales = _make_pyramid(own, seen, neck, levels)
        if all(log2(scale).is_integer() for scale in scales):
            yield pyramid
    elif known == list(wanted[: len(known)]) and known:  # coarser maps follow from the last of these
        indices = tuple(last[stride] for stride in known)
        if neck is None or was_plain:
            yield _make_fpn(seen, neck, levels, indices)
        else:
            yield _keep_neck(neck, levels, indices)


def spread_levels(count: int, depth: int) -> tuple[int, ...]:
    """Choose levels at equal distances, the last among them: ``spread_levels(4, 12)`` is ``(2, 5, 8, 11)``.

    Args:
        count: How many to choose.
        depth: How many levels there are.
    """
    return tuple(round(depth * (i + 1) / count) - 1 for i in range(count))


def _keep_neck(neck: dict[str, Any] | None, levels: FeatureShapes, indices: tuple[int, ...]) -> NeckPlan:
    """Keep the model's own neck, with the new channels under the argument by which it asks for them."""
    if neck is None:
        return NeckPlan(indices, None)
    channels = list(levels.select(indices).channels)
    if isinstance(neck.get('in_channels'), list | tuple):
        return NeckPlan(indices, neck | {'in_channels': channels})
    return NeckPlan(indices, neck | {'embed_dim' if 'embed_dim' in neck else 'in_channels': channels[-1]})


def _make_pyramid(
    own: FeatureShapes, seen: FeatureShapes, neck: Mapping[str, Any] | None, levels: FeatureShapes
) -> tuple[NeckPlan, tuple[float, ...]]:
    """Make a pyramid from the last level, and return it with its scales.

    It has as many scales as the backbone or its pyramid had maps; the others follow by pooling.
    """
    width, stride = levels.channels[-1], _round_stride(levels.strides[-1])
    strides = sorted(set(seen.strides))
    coarsest: float = _round_stride(max(own.strides))
    if neck is None:
        coarsest = strides[-1]
    elif len(set(own.strides)) == 1:
        coarsest /= min(neck.get('scales') or neck.get('rescales') or DEFAULT_SCALES)
    scales = tuple(stride / s for s in strides if s <= coarsest)
    config = dict(
        type='mae_toolkit.SimplePyramid',
        in_channels=width,
        out_channels=(neck or {}).get('out_channels', width),
        scales=scales,
        num_outs=len(strides),
    )
    if stride != levels.strides[-1]:
        config['scale_factor'] = levels.strides[-1] / stride
    return NeckPlan((len(levels.strides) - 1,), config), scales


def _round_stride(stride: int) -> int:
    """Return the nearest power of two, such as 16 for 14: heads have strides of powers of two."""
    return 2 ** round(log2(stride))


def _make_fpn(
    seen: FeatureShapes, neck: Mapping[str, Any] | None, levels: FeatureShapes, indices: tuple[int, ...]
) -> NeckPlan:
    """Make an FPN over some levels, with as many outputs as the heads read."""
    channels = list(levels.select(indices).channels)
    width = (neck or {}).get('out_channels', channels[-1])
    num_outs = len(set(seen.strides))
    return NeckPlan(indices, dict(type='FPN', in_channels=channels, out_channels=width, num_outs=num_outs))


def measure_backbone(config: Mapping[str, Any], scope: str) -> FeatureShapes:
    """Measure the maps that a backbone returns, without memory for its weights.

    Args:
        config: Config of the backbone.
        scope: Scope whose registries know it, such as ``'mmdet'``.
    """
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'), torch.no_grad():
        kept = {key: value for key, value in config.items() if key not in ('init_cfg', 'pretrained')}
        if isinstance(config.get('pretrained'), bool):  # of timm's backbones in MMSegmentation, True by default
            kept['pretrained'] = False
        network = get_registry(scope, 'MODELS').build(kept)
        network.eval()
        if isinstance(network, DescribesMaps):
            return FeatureShapes(tuple(network.out_strides), tuple(network.out_channels))
        channels = config.get('in_channels', 3)
        return _measure(network(torch.empty(1, channels, SIDE, SIDE)))


def measure_neck(config: Mapping[str, Any] | None, maps: FeatureShapes, scope: str) -> FeatureShapes:
    """Measure the maps that a neck makes of others, without memory for its weights.

    Args:
        config: Config of the neck; None for no neck, which leaves the maps as they are.
        maps: Maps that the neck is given.
        scope: Scope whose registries know it, such as ``'mmdet'``.
    """
    if config is None:
        return maps
    with DefaultScope.overwrite_default_scope(scope), torch.device('meta'), torch.no_grad():
        neck = get_registry(scope, 'MODELS').build(dict(config))
        neck.eval()
        sides = [ceil(SIDE / stride) for stride in maps.strides]  # as encoders pad images
        return _measure(neck([torch.empty(1, c, n, n) for c, n in zip(maps.channels, sides, strict=True)]))


def _measure(maps: Tensor | Sequence[Tensor]) -> FeatureShapes:
    maps = (maps,) if isinstance(maps, Tensor) else maps
    return FeatureShapes(tuple(SIDE // x.shape[-1] for x in maps), tuple(x.shape[1] for x in maps))


def find_indexed_heads(model: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Find the configs of the heads that choose maps by ``in_index``: those of a segmenter; a detector has none."""
    heads = (model.get(key) for key in ('decode_head', 'auxiliary_head'))
    return [one for head in heads if head for one in (head if isinstance(head, list | tuple) else [head])]


def maps_read_by_heads(model: Mapping[str, Any], maps: FeatureShapes) -> FeatureShapes:
    """Return which of the maps the heads of a model read: a detector's heads read all of them.

    Args:
        model: Config of the model.
        maps: Maps after the neck.
    """
    heads = find_indexed_heads(model)
    if not heads:
        return maps
    return maps.select(sorted({i % len(maps.strides) for head in heads for i in _list_indices(head)}))


def remap_heads(model: Mapping[str, Any], before: FeatureShapes, after: FeatureShapes) -> None:
    """Let the heads of a segmenter read the maps that have the strides of those before, in place.

    Where strides and their number are equal, the indices stay; otherwise the last map of each stride is read.

    Args:
        model: Config of the model, whose heads are changed.
        before: Maps after the neck that the model had.
        after: Maps after the new neck.
    """
    same = before.strides == after.strides
    for head in find_indexed_heads(model):
        many = isinstance(head.get('in_index', -1), list | tuple)
        indices = [i if same else after.last_of_stride()[before.strides[i]] for i in _list_indices(head)]
        channels = [after.channels[i] for i in indices]
        head['in_index'], head['in_channels'] = (indices, channels) if many else (indices[0], channels[0])


def _list_indices(head: Mapping[str, Any]) -> list[int]:
    index = head.get('in_index', -1)
    return list(index) if isinstance(index, list | tuple) else [index]


def is_compatible(model: Mapping[str, Any], before: FeatureShapes, seen: FeatureShapes, after: FeatureShapes) -> bool:
    """Return whether the heads of a model can read new maps; a segmenter's accept other channels, a detector's do not.

    Args:
        model: Config of the model.
        before: Maps after the neck that the model had.
        seen: Those of them that the heads read.
        after: Maps after the new neck.
    """
    if find_indexed_heads(model):
        return after.strides == before.strides or set(seen.strides) <= set(after.strides)
    return after == before


def no_neck_error(name: str, seen: FeatureShapes, levels: FeatureShapes) -> UserError:
    """Return the error for an encoder from which no neck makes the maps that the heads read.

    Args:
        name: Name of the encoder.
        seen: Maps that the heads read.
        levels: Levels of the encoder.
    """
    offered = ', '.join(map(str, sorted(set(levels.strides))))
    return UserError(
        f'The heads of the config read maps of strides {seen}, and the {name} gives strides {offered}: choose an '
        'encoder that has the finest of them or one stride alone, or a config for the strides of the encoder.'
    )
