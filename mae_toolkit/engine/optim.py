"""Train in mixed precision on CPUs, and group parameters by MAE's rule of weight decay."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from torch import nn

from mae_toolkit.arguments import Number, check_value
from mae_toolkit.engine._mmengine import FROZEN_PARAMETER_WARNING, PARAMWISE_KEYS, drop_log_records
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import NamesUndecayedParameters
from mae_toolkit.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, suggest

# MAE exempts parameters of one dimension from weight decay, but not its tokens, which have three dimensions there.
MAE_RULE = dict(bias_decay_mult=0.0, flat_decay_mult=0.0)
ENCODERS = ('encoder.', 'backbone.')  # starts of names
TOKENS = ('mask_token', 'cls_token', 'reg_token', 'pos_embed')


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """Optimizer wrapper for mixed precision without loss scaling, on the CPU or a GPU.

    MMEngine's ``AmpOptimWrapper`` needs a GPU; use that for float16, which needs its loss scaler.

    Args:
        dtype: ``'bfloat16'``, or ``'float32'`` for no mixed precision.
        **kwargs: Arguments of :class:`mmengine.optim.OptimWrapper`, such as ``clip_grad``.

    Raises:
        UserError: If ``dtype`` is another type.
    """

    def __init__(self, dtype: str = 'bfloat16', **kwargs: Any) -> None:
        if dtype not in ('bfloat16', 'float32'):
            raise UserError(
                f"AutocastOptimWrapper: dtype={dtype!r} must be 'bfloat16' or 'float32'; AmpOptimWrapper has float16."
            )
        super().__init__(**kwargs)
        self.dtype = getattr(torch, dtype)

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast on the model's device while a ``with`` block runs."""
        device = next(model.parameters()).device.type
        mixed = torch.autocast(device, self.dtype) if self.dtype != torch.float32 else nullcontext()
        with super().optim_context(model), mixed:
            yield


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class GroupedOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """Constructor for MAE's rule of weight decay, with as few parameter groups as there are different options.

    Biases and parameters of one dimension are not decayed; position tables and mask, class and register tokens are.
    ``paramwise_cfg`` changes or extends this, as in MMEngine. With ``no_weight_decay=True`` in it, the parameters that
    parts return by ``no_weight_decay()`` (tokens, position tables) are not decayed either, which is SimMIM's rule. With
    ``encoder_lr_mult=0.1``, the learning rate of an encoder (or backbone) is a tenth of that of all else; a mask token
    in it, which no public weights hold, has the full rate.

    MMEngine makes a group of every parameter, so that fused and foreach optimizers have nothing to combine; here groups
    of equal options are merged.

    Args:
        optim_wrapper_cfg: Config of the optimizer wrapper, as in MMEngine.
        paramwise_cfg: Rules for single parameters, as in MMEngine, and ``no_weight_decay``.

    Raises:
        UserError: If a rule is unknown, or a factor is negative.
    """

    # Not logged: MMEngine warns about each frozen parameter, but a fixed position table is meant to be frozen.
    unlogged: tuple[str, ...] = (FROZEN_PARAMETER_WARNING,)
    own: tuple[str, ...] = ('no_weight_decay', 'encoder_lr_mult')  # keys of paramwise_cfg that MMEngine does not know

    def __init__(self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None) -> None:
        optimizer, given = optim_wrapper_cfg['optimizer'], dict(paramwise_cfg or {})
        self._check_rules(given)
        if optimizer.get('weight_decay') is not None:
            given = MAE_RULE | given
        given.setdefault('bypass_duplicate', False)  # the default; without any rule MMEngine adds frozen ones
        super().__init__(optim_wrapper_cfg, given)

    def _check_rules(self, rules: Mapping[str, Any]) -> None:
        """Refuse keys that nothing would read, and factors that would make a learning rate or decay negative."""
        known = sorted([*self.own, *PARAMWISE_KEYS])
        for key in rules.keys() - set(known):
            raise UserError(f'{type(self).__name__}: paramwise_cfg has no {key!r}{suggest(key, known)}')
        custom = rules.get('custom_keys') or {}
        if not isinstance(custom, dict) or not all(isinstance(rule, dict) for rule in custom.values()):
            raise UserError(
                f'paramwise_cfg.custom_keys={custom!r} must be a dict of parts of names, each with a dict such as '
                'dict(lr_mult=0.1, decay_mult=0.0).'
            )
        factors = {f'paramwise_cfg.{key}': value for key, value in rules.items() if key.endswith('_mult')}
        for name, rule in custom.items():
            factors |= {
                f'paramwise_cfg.custom_keys.{name}.{key}': v for key, v in rule.items() if key.endswith('_mult')
            }
        for path, factor in factors.items():
            check_value(path, factor, Number(0))

    def add_params(
        self, params: list[dict[str, Any]], module: nn.Module, prefix: str = '', is_dcn_module: Any = None
    ) -> None:
        """Add the parameter groups of a module and those in it; for the whole model, refine and merge them.

        Args:
            params: The groups so far, which are extended in place.
            module: The module.
            prefix: Dotted name of the module; empty for the whole model.
            is_dcn_module: Passed on to MMEngine.
        """
        if prefix:
            super().add_params(params, module, prefix, is_dcn_module)
            return
        with drop_log_records(*self.unlogged):
            super().add_params(params, module, prefix, is_dcn_module)
        names = {parameter: name for name, parameter in module.named_parameters()}
        self.refine({names[group['params'][0]]: group for group in params}, module)
        params[:] = merge_groups(params, dict(lr=self.base_lr, weight_decay=self.base_wd))

    def refine(self, groups: dict[str, dict[str, Any]], model: nn.Module) -> None:
        """Change groups before they are merged: here, the decay of tokens and tables, and the encoder's learning rate.

        Args:
            groups: Groups of one parameter each, by its name; changed in place.
            model: The model that has these parameters.
        """
        exempt = find_exempt_from_decay(model) if self.paramwise_cfg.get('no_weight_decay') else ()
        for name, group in groups.items():
            if name in exempt:
                group['weight_decay'] = 0.0
            elif self._is_plain_token(name):
                group.pop('weight_decay', None)
        factor = self.paramwise_cfg.get('encoder_lr_mult', 1.0)
        for name, group in groups.items() if factor != 1 else ():
            if name.startswith(ENCODERS) and not name.endswith('mask_token'):
                group['lr'] = group.get('lr', self.base_lr) * factor

    def _is_plain_token(self, name: str) -> bool:
        """Return whether a parameter is a token or position table that no rule of ``custom_keys`` names."""
        return name.rsplit('.', 1)[-1] in TOKENS and not any(
            k in name for k in self.paramwise_cfg.get('custom_keys', ())
        )


def find_exempt_from_decay(model: nn.Module) -> set[str]:
    """Find the names of the parameters that parts of a model return by ``no_weight_decay()``.

    Args:
        model: The model.
    """
    parts = [(path, part) for path, part in model.named_modules() if isinstance(part, NamesUndecayedParameters)]
    return {f'{path}.{name}' if path else name for path, part in parts for name in part.no_weight_decay()}


def merge_groups(groups: Sequence[dict[str, Any]], defaults: dict[str, Any]) -> list[dict[str, Any]]:
    """Merge parameter groups of equal options, in the order of their first parameters.

    Args:
        groups: Groups with ``params`` and options.
        defaults: Options of groups that do not set them; those that are None are left out.
    """
    merged: dict[tuple, dict[str, Any]] = {}
    for group in groups:
        options = {k: v for k, v in (defaults | group).items() if k not in ('params', 'lr_mult', 'decay_mult')}
        key = tuple(sorted((k, repr(v)) for k, v in options.items()))
        options = {k: v for k, v in options.items() if v is not None}
        merged.setdefault(key, dict(params=[], **options))['params'].extend(group['params'])
    return list(merged.values())
