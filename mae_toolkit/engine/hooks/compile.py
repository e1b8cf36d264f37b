"""Compile a model with ``torch.compile`` while a run trains."""

import inspect
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS, suggest


def compile_parts(model: Any, **kwargs: Any) -> None:
    """Compile ``encoder.encode`` and ``decoder.forward`` of a model, in place.

    Args:
        model: A :class:`MaskedAutoencoder`; its modules and their names in ``state_dict`` stay as they are.
        **kwargs: Arguments of :func:`torch.compile`.
    """
    model.encoder.encode = torch.compile(model.encoder.encode, **kwargs)
    model.decoder.forward = torch.compile(model.decoder.forward, **kwargs)


@HOOKS.register_module()
class CompileHook(Hook):
    """Hook that compiles the encoder's ``encode`` and the decoder's ``forward`` while the run trains.

    Functions are compiled, not modules, so that the names in ``state_dict`` stay as they are.

    Args:
        **kwargs: Arguments of :func:`torch.compile`.

    Raises:
        UserError: If ``torch.compile`` has no argument of such a name.
    """

    def __init__(self, **kwargs: Any) -> None:
        parameters = inspect.signature(torch.compile).parameters
        is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        for name in () if is_open else kwargs.keys() - set(parameters):
            raise UserError(f'CompileHook: torch.compile has no argument {name!r}{suggest(name, list(parameters))}')
        self.kwargs = kwargs

    def before_train(self, runner: Runner) -> None:
        """Replace the functions by compiled ones."""
        compile_parts(unwrap(runner.model), **self.kwargs)

    def after_train(self, runner: Runner) -> None:
        """Restore the functions, so that the modules can be copied and pickled."""
        model = unwrap(runner.model)
        del model.encoder.encode, model.decoder.forward
