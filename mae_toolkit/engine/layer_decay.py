"""Layer-wise decay of the learning rate: one constructor for classifiers, detectors and segmenters."""

from mmengine.logging import print_log
from timm.models import group_parameters

from mae_toolkit.engine._mmengine import PARAMETER_OPTIONS
from mae_toolkit.engine.optim import GroupedOptimWrapperConstructor
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import HasGroupMatcher, HasLayerDepth
from mae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS

CLASSIFIERS = ('head.', 'fc.', 'classifier.')  # of timm's models
GROUPINGS = ('block', 'group')


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(GroupedOptimWrapperConstructor):
    """The deeper a layer of the backbone, the higher its learning rate: ``lr * decay_rate ** (deepest - depth)``.

    The rule of BEiT's fine-tuning (arXiv:2106.08254, section 3.1; ELECTRA's, arXiv:2003.10555, appendix A). How deep a
    parameter lies is asked of the encoder (``layer_depth``), or of timm's ``group_matcher`` where the backbone is a
    model of timm. What is not in the backbone (neck, heads) has the full rate. Weight decay follows
    :class:`GroupedOptimWrapperConstructor`, here with the ``no_weight_decay()`` of the encoder unless it is turned off.
    Frozen parameters are left out. Groups of equal options are merged, and logged once, as a table.

    Configs of MMDetection and MMSegmentation name it with its scope::

        optim_wrapper = dict(
            constructor='mae_toolkit.LayerDecayOptimWrapperConstructor',
            paramwise_cfg=dict(decay_rate=0.65),
            optimizer=dict(type='AdamW', lr=1e-4, weight_decay=0.05),
        )

    Args:
        optim_wrapper_cfg (dict): As in MMEngine.
        paramwise_cfg (dict): ``decay_rate`` (float), in (0, 1]; ``grouping`` (str), ``'block'`` or ``'group'``, the 12
            groups of ConvNeXt's recipes; ``backbone`` (str), where the backbone is in the model, ``'backbone'`` or
            ``'encoder'`` by default; ``no_weight_decay`` (bool), True by default. MMEngine's keys compose with these:
            the ``lr_mult`` of a ``custom_keys`` is multiplied by the decay.

    Raises:
        UserError: If there is no rate in (0, 1], a key is unknown, or there is no backbone that knows its layers.
    """

    # Of each option of each parameter; the table says the same in fewer lines.
    unlogged = (*GroupedOptimWrapperConstructor.unlogged, PARAMETER_OPTIONS)
    own = ('decay_rate', 'grouping', 'backbone', 'no_weight_decay')

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        given = {'no_weight_decay': True, 'grouping': 'block'} | dict(paramwise_cfg or {})
        self._check_rules(given)
        rate = given.get('decay_rate')
        if isinstance(rate, bool) or not isinstance(rate, int | float) or not 0 < rate <= 1:
            raise UserError(f'paramwise_cfg.decay_rate={rate!r} is no rate above 0 and up to 1; ViT-B has 0.65.')
        if given['grouping'] not in GROUPINGS:
            raise UserError(f'paramwise_cfg.grouping={given["grouping"]!r} is none of {", ".join(GROUPINGS)}.')
        if optim_wrapper_cfg['optimizer'].get('lr') is None:
            raise UserError('Layer-wise decay scales the learning rate of the optimizer: set optimizer.lr.')
        super().__init__(optim_wrapper_cfg, given)

    def refine(self, groups, model):
        """Scale the learning rates of the backbone."""
        super().refine(groups, model)
        path, backbone = find_backbone(model, self.paramwise_cfg.get('backbone'))
        depth_of = depths_of(path, backbone, self.paramwise_cfg['grouping'])
        rows = {}
        for name, group in groups.items():
            inside = name.startswith(f'{path}.')
            exponent = 0
            if inside:
                depth, deepest = depth_of(name.removeprefix(f'{path}.'))
                exponent = deepest - depth
                group['lr'] = group.get('lr', self.base_lr) * self.paramwise_cfg['decay_rate'] ** exponent
            options = group.get('lr', self.base_lr), group.get('weight_decay', self.base_wd) or 0.0
            rows.setdefault((exponent, *options), []).append((name, group['params'][0].numel()))
        print_log(table(rows), 'current')


def find_backbone(model, path=None):
    """Where the backbone of a model is, and the backbone.

    Args:
        model (nn.Module): A classifier, detector or segmenter.
        path (str | None): Its dotted name, if it is not ``backbone`` or ``encoder``.

    Raises:
        UserError: If there is no such part.
    """
    modules = dict(model.named_modules())
    for name in ('backbone', 'encoder') if path is None else (path,):
        if name and name in modules:
            return _within_wrappers(name, modules[name])
    tops = ', '.join(name for name, _ in model.named_children())
    what = "neither 'backbone' nor 'encoder'" if path is None else f'no part {path!r}'
    raise UserError(
        f'{type(model).__name__} has {what}, only {tops}: name its backbone by paramwise_cfg=dict(backbone=...).'
    )


def _within_wrappers(path, module):
    """The part that knows its layers, if it is all that a wrapper holds, as MMSegmentation's around timm's models."""
    inside, where = module, path
    while not isinstance(inside, HasLayerDepth | HasGroupMatcher):
        parts = [(name, part) for name, part in inside.named_children() if next(part.parameters(), None) is not None]
        if len(parts) != 1:
            return path, module
        where, inside = f'{where}.{parts[0][0]}', parts[0][1]
    return where, inside


def depths_of(path, backbone, grouping):
    """A function from a parameter's name within a backbone to (depth, greatest depth).

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
    deepest = max(depth for depth in depths.values() if depth not in classifier) + 1  # of the heads, which follow
    return lambda name: (depths[name], deepest)


def table(rows, shown=3):
    """Learning rate, weight decay and names of the groups, in Markdown, from the first layers to the last."""
    lines = ['Learning rate by layer:', '| layers to the last | lr | weight decay | parameters | numbers | names |']
    lines.append('|---|---|---|---|---|---|')
    for (exponent, lr, decay), members in sorted(rows.items(), key=lambda row: (-row[0][0], row[0][1:])):
        names = ', '.join(name for name, _ in members[:shown]) + (', …' if len(members) > shown else '')
        numbers = sum(count for _, count in members)
        lines.append(f'| {exponent} | {lr:.3g} | {decay or 0:.3g} | {len(members)} | {numbers} | {names} |')
    return '\n'.join(lines)
