"""Undo what a dry run changes: random states, modes and buffers of the model, logged values, output."""

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout

import torch
from mmengine.logging import MMLogger
from torch import nn

from mae_toolkit.engine._mmengine import restore_message_hub
from mae_toolkit.errors import UserError
from mae_toolkit.randomness import kept_random_states


@contextmanager
def leave_no_trace(runner) -> Iterator[None]:
    """Restore random states, the model's modes and buffers and the message hub afterwards; print and log nothing.

    Args:
        runner (Runner): Its model, logger and message hub are meant. Parameters are not copied: nothing but an
            optimizer changes them.
    """
    with (
        _random_states(),
        _modes_and_buffers(runner.model),
        restore_message_hub(runner.message_hub),
        _silence(runner.logger),
    ):
        yield


@contextmanager
def _random_states() -> Iterator[None]:
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices), kept_random_states():
        yield


@contextmanager
def _modes_and_buffers(model: nn.Module) -> Iterator[None]:
    modes = [(module, module.training) for module in model.modules()]
    buffers = [(module, dict(module._buffers)) for module in model.modules() if module._buffers]
    copies = {id(one): one.clone() for _, named in buffers for one in named.values() if one is not None}
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode  # not train(mode), which would set the children too
        for module, named in buffers:
            module._buffers.clear()
            module._buffers.update(named)
            for one in named.values():
                if one is not None and not torch.equal(one, copies[id(one)]):
                    with torch.no_grad():
                        one.copy_(copies[id(one)])


@contextmanager
def _silence(logger: MMLogger) -> Iterator[None]:
    """Drop records, warnings and what is printed, which come again when it is meant; after a failure print it."""
    loggers = {id(one): one for one in (logger, MMLogger.get_current_instance())}.values()
    printed = io.StringIO()
    for one in loggers:
        one.addFilter(_refuse)
    try:
        with warnings.catch_warnings(), redirect_stdout(printed):
            warnings.simplefilter('ignore')
            yield
    except UserError:
        raise
    except BaseException:
        sys.stdout.write(printed.getvalue())
        raise
    finally:
        for one in loggers:
            one.removeFilter(_refuse)


def _refuse(record) -> bool:
    return False
