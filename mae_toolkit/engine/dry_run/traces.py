"""Undo what a dry run changes: random states, modes and buffers of the model, logged values and output."""

import io
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from logging import LogRecord

import torch
from mmengine.logging import MMLogger
from mmengine.runner import Runner
from torch import nn

from mae_toolkit.engine._mmengine import restore_message_hub
from mae_toolkit.errors import UserError
from mae_toolkit.randomness import kept_random_states


@contextmanager
def leave_no_trace(runner: Runner) -> Iterator[None]:
    """Restore random states, modes and buffers of the model and logged values after a ``with`` block.

    Nothing is printed or logged in the block. Parameters are not copied, as only an optimizer changes them.

    Args:
        runner: The runner whose model, logger and message hub are used in the block.
    """
    with (
        _restore_random_states(),
        _restore_modes_and_buffers(runner.model),
        restore_message_hub(runner.message_hub),
        _silence(runner.logger),
    ):
        yield


@contextmanager
def _restore_random_states() -> Iterator[None]:
    devices = [torch.cuda.current_device()] if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices), kept_random_states():
        yield


@contextmanager
def _restore_modes_and_buffers(model: nn.Module) -> Iterator[None]:
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
    """Suppress log records, warnings and printed text, which come again in the real run; print the text on failure."""
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


def _refuse(record: LogRecord) -> bool:
    return False
