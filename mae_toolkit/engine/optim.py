"""Mixed precision on CPUs, and parameter groups by MAE's rule."""

from contextlib import contextmanager

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper

from mae_toolkit.arguments import Number, check_value
from mae_toolkit.engine._mmengine import FROZEN_PARAMETER_WARNING, PARAMWISE_KEYS, drop_log_records
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import NamesUndecayedParameters
from mae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, suggest

# MAE exempts what has one dimension from weight decay, and its tokens, which there have three, are decayed.
MAE_RULE = dict(bias_decay_mult=0.0, flat_decay_mult=0.0)
TOKENS = ('mask_token', 'cls_token', 'reg_token', 'pos_embed')


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Mixed precision without loss scaling, on the CPU or a GPU.

    MMEngine's ``AmpOptimWrapper`` needs a GPU; it remains the one for fp16, which wants its scaler.

    Args:
        dtype (str): 'bfloat16'.
        **kwargs: As for :class:`mmengine.optim.OptimWrapper` (accumulation, clipping).
    """

    def __init__(self, dtype='bfloat16', **kwargs):
        if dtype != 'bfloat16':
            raise UserError(f"AutocastOptimWrapper computes in 'bfloat16', not {dtype!r}; AmpOptimWrapper has fp16.")
        super().__init__(**kwargs)
        self.dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model):
        """Autocast on the model's device."""
        device = next(model.parameters()).device.type
        with super().optim_context(model), torch.autocast(device, self.dtype):
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """MAE's weight decay, in as few parameter groups as there are different options.

    Biases and parameters of one dimension are not decayed; position tables and mask, class and register tokens are.
    ``paramwise_cfg`` changes or extends this, as in MMEngine; with ``no_weight_decay=True`` in it, what parts name
    in their ``no_weight_decay()`` is exempt too (tokens, tables of positions; SimMIM's rule). MMEngine makes a group of
    every parameter, which leaves fused and foreach optimizers nothing to put together; groups of equal options are
    merged here.
    """

    # MMEngine warns of each frozen parameter, which is no fault of a fixed position table.
    unlogged = (FROZEN_PARAMETER_WARNING,)
    own = ('no_weight_decay',)  # keys of paramwise_cfg that MMEngine does not know

    def __init__(self, optim_wrapper_cfg, paramwise_cfg=None):
        optimizer, given = optim_wrapper_cfg['optimizer'], dict(paramwise_cfg or {})
        self._check_rules(given)
        if optimizer.get('weight_decay') is not None:
            given = MAE_RULE | given
        given.setdefault('bypass_duplicate', False)  # its own: without any rule MMEngine takes what is frozen, too
        super().__init__(optim_wrapper_cfg, given)

    def _check_rules(self, rules):
        """Refuse keys that nobody would read, and factors that make a rate or a decay negative."""
        known = sorted([*self.own, *PARAMWISE_KEYS])
        for key in rules.keys() - set(known):
            raise UserError(f'{type(self).__name__}: paramwise_cfg has no {key!r}{suggest(key, known)}')
        custom = rules.get('custom_keys') or {}
        if not isinstance(custom, dict) or not all(isinstance(rule, dict) for rule in custom.values()):
            raise UserError(
                f'paramwise_cfg.custom_keys={custom!r} has to be a dict of parts of names, each with a dict such as '
                'dict(lr_mult=0.1, decay_mult=0.0).'
            )
        factors = {f'paramwise_cfg.{key}': value for key, value in rules.items() if key.endswith('_mult')}
        for name, rule in custom.items():
            factors |= {
                f'paramwise_cfg.custom_keys.{name}.{key}': v for key, v in rule.items() if key.endswith('_mult')
            }
        for path, factor in factors.items():
            check_value(path, factor, Number(0))

    def add_params(self, params, module, prefix='', is_dcn_module=None):
        """Add the groups of a module; at the top, refine and merge them."""
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        with drop_log_records(*self.unlogged):
            super().add_params(params, module, prefix, is_dcn_module)
        names = {parameter: name for name, parameter in module.named_parameters()}
        self.refine({names[group['params'][0]]: group for group in params}, module)
        params[:] = merge(params, dict(lr=self.base_lr, weight_decay=self.base_wd))

    def refine(self, groups, model):
        """Change groups before they are merged: here, decay the tokens.

        Args:
            groups (dict[str, dict]): By the name of their one parameter; changed in place.
            model (nn.Module): Has these parameters.
        """
        exempt = exempt_from_decay(model) if self.paramwise_cfg.get('no_weight_decay') else ()
        for name, group in groups.items():
            if name in exempt:
                group['weight_decay'] = 0.0
            elif self._is_plain_token(name):
                group.pop('weight_decay', None)

    def _is_plain_token(self, name):
        return name.rsplit('.', 1)[-1] in TOKENS and not any(
            k in name for k in self.paramwise_cfg.get('custom_keys', ())
        )


def exempt_from_decay(model):
    """Names of the parameters that parts of a model name in their ``no_weight_decay()``."""
    asked = [(path, part) for path, part in model.named_modules() if isinstance(part, NamesUndecayedParameters)]
    return {f'{path}.{name}' if path else name for path, part in asked for name in part.no_weight_decay()}


def merge(groups, defaults):
    """Merge parameter groups of equal options, in the order of their first parameters.

    Args:
        groups (list[dict]): Each with ``params`` and options.
        defaults (dict): Options of a group that does not name them; those that are None are left out.
    """
    merged = {}
    for group in groups:
        options = {k: v for k, v in (defaults | group).items() if k not in ('params', 'lr_mult', 'decay_mult')}
        key = tuple(sorted((k, repr(v)) for k, v in options.items()))
        options = {k: v for k, v in options.items() if v is not None}
        merged.setdefault(key, dict(params=[], **options))['params'].extend(group['params'])
    return list(merged.values())
