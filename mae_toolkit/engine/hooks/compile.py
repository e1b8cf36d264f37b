"""Compile a model with ``torch.compile`` while a run trains."""

import inspect
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.models.compile import REGIONS, compile_parts, restore_parts
from mae_toolkit.registry import HOOKS, suggest


@HOOKS.register_module()
class CompileHook(Hook):
    """Hook that compiles encoder and decoder while the run trains.

    Functions are compiled, not modules, so that the names in ``state_dict`` stay as they are.

    Args:
        regions: What is compiled, ``'whole'`` or ``'blocks'``; see
            :func:`~mae_toolkit.models.compile.compile_parts`.
        **kwargs: Arguments of :func:`torch.compile`.

    Raises:
        UserError: If ``torch.compile`` has no argument of such a name, or ``regions`` is something else.
    """

    def __init__(self, regions: str = 'whole', **kwargs: Any) -> None:
        if regions not in REGIONS:
            raise UserError(f'CompileHook: regions={regions!r} must be one of {", ".join(REGIONS)}.')
        parameters = inspect.signature(torch.compile).parameters
        is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        for name in () if is_open else kwargs.keys() - set(parameters):
            raise UserError(f'CompileHook: torch.compile has no argument {name!r}{suggest(name, list(parameters))}')
        self.regions, self.kwargs = regions, kwargs

    def before_train(self, runner: Runner) -> None:
        """Replace the functions by compiled ones."""
        compile_parts(unwrap(runner.model), self.regions, **self.kwargs)

    def after_train(self, runner: Runner) -> None:
        """Restore the functions, so that the modules can be copied and pickled."""
        restore_parts(unwrap(runner.model))
