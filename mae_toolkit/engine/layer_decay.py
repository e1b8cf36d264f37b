"""Decay the learning rate layer by layer: one constructor for classifiers, detectors and segmenters."""

from collections.abc import Callable
from typing import Any

from mmengine.logging import print_log
from timm.models import group_parameters
from torch import nn

from mae_toolkit.engine._mmengine import PARAMETER_OPTIONS
from mae_toolkit.engine.optim import GroupedOptimWrapperConstructor
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import HasGroupMatcher, HasLayerDepth
from mae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS

CLASSIFIERS = ('head.', 'fc.', 'classifier.')  # prefixes in timm's models
GROUPINGS = ('block', 'group')

Rows = dict[tuple[int, float, float], list[tuple[str, int]]]


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(GroupedOptimWrapperConstructor):
    """Constructor that gives early layers a lower learning rate: ``lr * decay_rate ** (deepest - depth)``.

    This is the rule of BEiT's fine-tuning (arXiv:2106.08254, section 3.1; ELECTRA's, arXiv:2003.10555, appendix A).
    Example: with ``decay_rate=0.65`` and 12 blocks, the last block has the learning rate ``lr * 0.65``, and the patch
    embedding ``lr * 0.65 ** 13``.

    The depth of a parameter comes from the encoder (``layer_depth``), or from timm's ``group_matcher`` where the
    backbone is a model of timm. Parameters outside of the backbone (neck, heads) have the full rate. Weight decay
    follows :class:`GroupedOptimWrapperConstructor`, here with the ``no_weight_decay()`` of the encoder unless it is
    turned off. Frozen parameters are left out. Groups of equal options are merged, and logged once, as a table.

    Configs of MMDetection and MMSegmentation name it with its scope::

        optim_wrapper = dict(
            constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(decay_rate=0.65),
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        )

    Args:
        optim_wrapper_cfg: Config of the optimizer wrapper, as in MMEngine.
        paramwise_cfg: ``decay_rate``, above 0 and up to 1; ``grouping``, ``'block'`` or ``'group'`` for the 12 groups
            of ConvNeXt's recipes; ``backbone``, the dotted name of the backbone, by default ``'backbone'`` or
            ``'encoder'``; ``no_weight_decay``, True by default. MMEngine's keys work, too: the ``lr_mult`` of a
            ``custom_keys`` is multiplied by the decay.

    Raises:
        UserError: If the rate is missing or out of range, a key is unknown, or no backbone knows its layers.
    """

    # Not logged: a line for each option of each parameter; the table says the same in fewer lines.
    unlogged = (*GroupedOptimWrapperConstructor.unlogged, PARAMETER_OPTIONS)
    own = ('decay_rate', 'grouping', 'backbone', *GroupedOptimWrapperConstructor.own)

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        given = {'no_weight_decay': True, 'grouping': 'block'} | dict(paramwise_cfg or {})
        self._check_rules(given)
        rate = given.get('decay_rate')
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise UserError(f'paramwise_cfg.decay_rate={rate!r} must be above 0 and at most 1; ViT-B uses 0.65.')
        if given['grouping'] not in GROUPINGS:
            raise UserError(f'paramwise_cfg.grouping={given["grouping"]!r} must be one of {", ".join(GROUPINGS)}.')
        if optim_wrapper_cfg['optimizer'].get('lr') is None:
            raise UserError('Layer-wise decay scales the learning rate of the optimizer: set optimizer.lr.')
        super().__init__(optim_wrapper_cfg, given)

    def refine(self, groups: dict[str, dict[str, Any]], model: nn.Module) -> None:
        """Scale the learning rates of the backbone's parameters.

        Args:
            groups: Groups of one parameter each, by its name; changed in place.
            model: The model that has these parameters.
        """
        super().refine(groups, model)
        path, backbone = find_backbone(model, self.paramwise_cfg.get('backbone'))
        depth_of = make_depth_function(path, backbone, self.paramwise_cfg['grouping'])
        rows: Rows = {}
        for name, group in groups.items():
            inside = name.startswith(f'{path}.')
            exponent = 0
            if inside:
                depth, deepest = depth_of(name.removeprefix(f'{path}.'))
                exponent = deepest - depth
                group['lr'] = group.get('lr', self.base_lr) * self.paramwise_cfg['decay_rate'] ** exponent
            lr: Any = group.get('lr', self.base_lr)
            decay: Any = group.get('weight_decay', self.base_wd) or 0.0
            rows.setdefault((exponent, lr, decay), []).append((name, group['params'][0].numel()))
        print_log(format_table(rows), 'current')


def find_backbone(model: nn.Module, path: str | None = None) -> tuple[str, nn.Module]:
    """Find the backbone of a model, and return its dotted name and the backbone.

    Args:
        model: A classifier, detector or segmenter.
        path: Dotted name of the backbone, if it is not ``backbone`` or ``encoder``.

    Raises:
        UserError: If there is no such part.
    """
    modules = dict(model.named_modules())
    for name in ('backbone', 'encoder') if path is None else (path,):
        if name and name in modules:
            return _look_into_wrappers(name, modules[name])
    tops = ', '.join(name for name, _ in model.named_children())
    what = "neither 'backbone' nor 'encoder'" if path is None else f'no part {path!r}'
    raise UserError(
        f'{type(model).__name__} has {what}, only {tops}: name its backbone by paramwise_cfg=dict(backbone=...).'
    )


def _look_into_wrappers(path: str, module: nn.Module) -> tuple[str, nn.Module]:
    """Find the part that knows its layers if it is all that a wrapper holds, as MMSegmentation's for timm's models."""
    inside, where = module, path
    while not isinstance(inside, HasLayerDepth | HasGroupMatcher):
        parts = [(name, part) for name, part in inside.named_children() if next(part.parameters(), None) is not None]
        if len(parts) != 1:
            return path, module
        where, inside = f'{where}.{parts[0][0]}', parts[0][1]
    return where, inside


def make_depth_function(path: str, backbone: Any, grouping: str) -> Callable[[str], tuple[int, int]]:
    """Make a function that returns the depth of a parameter and the greatest depth.

    The function takes the name of a parameter within the backbone. Depths begin with 0, the patch embedding.

    Args:
        path: Dotted name of the backbone, for the error.
        backbone: The backbone.
        grouping: ``'block'`` or ``'group'``; a model of timm has only one grouping.

    Raises:
        UserError: If the backbone does not know its layers.
    """
    if isinstance(backbone, HasLayerDepth):
        return lambda name: backbone.layer_depth(name, grouping)
    if not isinstance(backbone, HasGroupMatcher):
        raise UserError(
            f'{path!r} is a {type(backbone).__name__}, which has neither layer_depth(name, grouping) nor the '
            'group_matcher of timm, so nothing is known of its layers: use an encoder of this toolkit, or name the '
            'part by paramwise_cfg=dict(backbone=...).'
        )
    depths = group_parameters(backbone, backbone.group_matcher(), reverse=True)
    classifier = {depth for name, depth in depths.items() if name.startswith(CLASSIFIERS)}
    deepest = max(depth for depth in depths.values() if depth not in classifier) + 1  # the heads follow
    return lambda name: (depths[name], deepest)


def format_table(rows: Rows, most: int = 3) -> str:
    """Write learning rate, weight decay and names of the groups as a Markdown table, from the first layers to the last.

    Args:
        rows: Name and number of elements of the parameters, by (layers to the last, learning rate, weight decay).
        most: How many names to list in a row.
    """
    lines = ['Learning rate by layer:', '| layers to the last | lr | weight decay | parameters | numbers | names |']
    lines.append('|---|---|---|---|---|---|')
    for (exponent, lr, decay), members in sorted(rows.items(), key=lambda row: (-row[0][0], row[0][1:])):
        names = ', '.join(name for name, _ in members[:most]) + (', …' if len(members) > most else '')
        numbers = sum(count for _, count in members)
        lines.append(f'| {exponent} | {lr:.3g} | {decay or 0:.3g} | {len(members)} | {numbers} | {names} |')
    return '\n'.join(lines)
