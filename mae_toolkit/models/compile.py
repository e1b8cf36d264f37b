"""Compile the encoder and the decoder of a model with ``torch.compile``, whole or by blocks."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from mae_toolkit.models.layers.recompute import Recomputing

REGIONS = ('whole', 'blocks')
# Kinds of blocks of a model; torch gives up compiling after 8 of a function.
MOST_KINDS = {'recompile_limit': 256}


def compile_parts(model: Any, regions: str = 'whole', **kwargs: Any) -> None:
    """Compile the encoder and the decoder of a model, in place.

    Args:
        model: A :class:`MaskedAutoencoder`; its modules and their names in ``state_dict`` stay as they are.
        regions: ``'whole'`` compiles ``encoder.encode`` and ``decoder.forward``; ``'blocks'`` their blocks, each kind
            once, which takes as long for 36 blocks as for 12. What is between the blocks is then not compiled.
        **kwargs: Arguments of :func:`torch.compile`.
    """
    if regions == 'blocks':
        compiler = _BlockCompiler(**kwargs)
        for part in _list_recomputing(model):
            part.run = partial(compiler.run, part.run)  # type: ignore[method-assign]
        return
    model.encoder.encode = torch.compile(model.encoder.encode, **kwargs)
    model.decoder.forward = torch.compile(model.decoder.forward, **kwargs)


def restore_parts(model: Any) -> None:
    """Undo :func:`compile_parts`, so that the modules can be copied and pickled."""
    for part, name in ((model.encoder, 'encode'), (model.decoder, 'forward')):
        vars(part).pop(name, None)
    for part in _list_recomputing(model):
        vars(part).pop('run', None)


class _BlockCompiler:
    """Run blocks by compiled functions, of which those that run alike blocks are compiled once.

    A block is an argument of the compiled function: torch guards what it looks like, not which one it is, so that the
    code for one serves all blocks of the same shape and settings. Shapes are constants, unless ``dynamic`` says
    otherwise. Blocks that differ in a number, as by their rate of stochastic depth, are compiled each by itself.

    Args:
        **kwargs: Arguments of :func:`torch.compile`.
    """

    def __init__(self, **kwargs: Any) -> None:
        self.kwargs = {'dynamic': False} | kwargs
        self.compiled: dict[Any, Callable] = {}

    def run(self, run: Callable, function: Callable, *inputs: Any) -> Any:
        """Call ``run``, which is :meth:`Recomputing.run`, with a compiled function in place of ``function``."""
        with torch._dynamo.config.patch(MOST_KINDS):
            return run(self._choose(function), *inputs)

    def _choose(self, function: Callable) -> Callable:
        """Return the compiled function for a function, a method or a module, which becomes its first argument."""
        if isinstance(function, nn.Module):
            return partial(self._compile(_call), function)
        owner = getattr(function, '__self__', None)
        if owner is not None:
            return partial(self._compile(function.__func__), owner)  # type: ignore[attr-defined]
        return self._compile(function)

    def _compile(self, function: Callable) -> Callable:
        if function not in self.compiled:
            self.compiled[function] = torch.compile(function, **self.kwargs)
        return self.compiled[function]


def _call(module: nn.Module, *inputs: Any) -> Any:
    return module(*inputs)


def _list_recomputing(model: Any) -> list[Recomputing]:
    """List the parts of encoder and decoder that run their blocks by :meth:`Recomputing.run`."""
    return [
        part for whole in (model.encoder, model.decoder) for part in whole.modules() if isinstance(part, Recomputing)
    ]
