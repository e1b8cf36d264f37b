"""torch.compile for a run."""

import inspect

import torch
from mmengine.hooks import Hook

from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS, suggest


def compile_parts(model, **kwargs):
    """Compile a model's ``encoder.encode`` and ``decoder.forward``; modules and their names stay as they are."""
    model.encoder.encode = torch.compile(model.encoder.encode, **kwargs)
    model.decoder.forward = torch.compile(model.decoder.forward, **kwargs)


@HOOKS.register_module()
class CompileHook(Hook):
    """Compiles the encoder's ``encode`` and the decoder's ``forward`` while the run trains.

    The functions are compiled, not the modules, so that the names in ``state_dict`` stay as they are.

    Args:
        **kwargs: For :func:`torch.compile`.
    """

    def __init__(self, **kwargs):
        parameters = inspect.signature(torch.compile).parameters
        is_open = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
        for name in () if is_open else kwargs.keys() - set(parameters):
            raise UserError(f'CompileHook: torch.compile has no argument {name!r}{suggest(name, list(parameters))}')
        self.kwargs = kwargs

    def before_train(self, runner):
        """Put the compiled functions in place."""
        compile_parts(unwrap(runner.model), **self.kwargs)

    def after_train(self, runner):
        """Give the modules their own functions back, so that they can be copied and pickled."""
        model = unwrap(runner.model)
        del model.encoder.encode, model.decoder.forward
