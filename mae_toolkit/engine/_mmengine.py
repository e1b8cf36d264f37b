"""What leans on MMEngine's private parts, so that an upgrade of MMEngine has two files to check.

Private are attributes and methods with a leading underscore, texts of log messages, and steps of MMEngine's own methods
that are repeated here. Each function touches one of them and says why. Written for MMEngine 0.10; nothing happens when
this module is imported. What saves and reads files is in :mod:`mae_toolkit.engine._mmengine_files`.
"""

import bisect
import copy
import functools
import getpass
import importlib
import logging
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock
from mmengine.config import DictAction
from mmengine.hooks import ParamSchedulerHook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmengine.runner import EpochBasedTrainLoop, IterBasedTrainLoop
from mmengine.runner import Runner as MMEngineRunner

from mae_toolkit.errors import wrap_build_error

YAPF = 'yapf.yapflib.yapf_api'
YAPF_LOCK = 'mae_toolkit_yapf.lock'
# Remarks of MMEngine about itself. No user can act on them, so they stay in the log file.
REMARKS = (
    'Failed to search registry with scope',
    '"FileClient" will be deprecated',
    '"HardDiskBackend" is the alias',
    'has no metainfo',
    'The prefix is not set in metric class',
)
# Parts of what DefaultOptimWrapperConstructor logs: a warning for each frozen parameter, as a fixed position table is,
# and a line for each option of each parameter.
FROZEN_PARAMETER_WARNING = 'requires_grad=False'
PARAMETER_OPTIONS = 'paramwise_options'
# Keys of paramwise_cfg that DefaultOptimWrapperConstructor reads; it ignores all others.
PARAMWISE_KEYS = (
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'flat_decay_mult',
    'dwconv_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
)
# The hooks that Runner.register_default_hooks adds on its own. It accepts None for these names only.
DEFAULT_HOOKS = ('runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler', 'checkpoint')


# ---- Runner ----


def import_yapf() -> None:
    """Import yapf, with which MMEngine lays out configs, in one process of a machine at a time.

    When it is imported for the first time, yapf writes its grammar into a cache, and another process that reads the
    half-written file at that moment fails with an EOFError.
    """
    with FileLock(Path(tempfile.gettempdir()) / f'{YAPF_LOCK}.{getpass.getuser()}'):
        importlib.import_module(YAPF)


def wrap_build_method(name: str) -> Callable[..., Any]:
    """Return a method of MMEngine's runner whose errors name, below their stack trace, what was being built.

    See :func:`~mae_toolkit.errors.wrap_build_error`.

    Args:
        name: The method, such as ``'build_model'``; the rest of the name says what it builds.
    """
    method = getattr(MMEngineRunner, name)

    @functools.wraps(method)
    def build(self: MMEngineRunner, *args: Any, **kwargs: Any) -> Any:
        with wrap_build_error(f'The {name.split("_", 1)[1]}'):
            return method(self, *args, **kwargs)

    return build


def call_hooks(runner: MMEngineRunner, fn_name: str, **kwargs: Any) -> None:
    """Call a method of all hooks that have it, as ``Runner.call_hook`` does.

    Repeated here because MMEngine raises any ``TypeError`` of a hook anew, without its stack trace.
    """
    for hook in runner.hooks:
        if hasattr(hook, fn_name):
            getattr(hook, fn_name)(runner, **kwargs)


def get_resume(runner: MMEngineRunner) -> bool | str:
    """Return the runner's ``resume`` setting, which MMEngine keeps without a public name."""
    return runner._resume


def get_load_from(runner: MMEngineRunner) -> str | None:
    """Return the checkpoint that the runner loads or resumes, which MMEngine keeps without a public name."""
    return runner._load_from


def set_load_from(runner: MMEngineRunner, checkpoint: str) -> None:
    """Let the runner load or resume another checkpoint than its config names: the newest one that is whole."""
    runner._load_from = checkpoint


def cancel_resume(runner: MMEngineRunner) -> None:
    """Let the runner start anew although it was asked to resume: there is nothing to resume from."""
    runner._resume = False


def has_loaded(runner: MMEngineRunner) -> bool:
    """Return whether the runner has loaded a checkpoint; it loads one only once."""
    return runner._has_loaded


def mark_loaded(runner: MMEngineRunner) -> None:
    """Tell the runner that a checkpoint is loaded, as MMEngine's own ``load_checkpoint`` does at its end."""
    runner._has_loaded = True


def get_shared_seed(runner: MMEngineRunner) -> int | None:
    """Return the seed of the run that all processes share; ``Runner.seed`` may be that of this process."""
    return runner._randomness_cfg.get('seed')


def finish_epoch(loop: EpochBasedTrainLoop) -> None:
    """Count an epoch, as ``EpochBasedTrainLoop.run_epoch`` does at its end; ``epoch`` can only be read."""
    loop._epoch += 1


def pass_over_iteration(loop: EpochBasedTrainLoop) -> None:
    """Count an iteration and step the schedules without training; ``iter`` can only be read."""
    for hook in loop.runner.hooks:
        if isinstance(hook, ParamSchedulerHook):
            hook.after_train_iter(loop.runner, 0)
    loop._iter += 1
    wrapper = loop.runner.optim_wrapper
    if get_accumulative_counts(wrapper) > 1:
        wrapper.initialize_count_status(loop.runner.model, loop._iter, loop._max_iters)


def end_training_at(loop: EpochBasedTrainLoop, iterations: int) -> None:
    """Let a training over epochs end after fewer iterations than its epochs have; ``max_iters`` can only be read."""
    loop._max_iters = min(loop._max_iters, iterations)


def find_val_interval(loop: IterBasedTrainLoop, iterations: int) -> int:
    """Return the iterations between two validations after so many, as ``_decide_current_val_interval`` finds them."""
    return loop.dynamic_intervals[bisect.bisect(loop.dynamic_milestones, iterations) - 1]


class ReplaceableRunner(MMEngineRunner):
    """MMEngine's runner with a public name for the way in which a model gets its first weights."""

    def init_model_weights(self) -> None:
        """Draw or load the first weights, and send those of the first process to the others."""
        super()._init_model_weights()

    def _init_model_weights(self) -> None:
        self.init_model_weights()


# ---- Models, optimizers and schedules ----


def compute_losses(model: BaseModel, batch: Any) -> dict[str, Any]:
    """Compute the losses of a batch as ``BaseModel.train_step`` does, without a step of the optimizer.

    Args:
        model: Any model of MMEngine, MMDetection or MMSegmentation.
        batch: The batch, as its data loader gives it.
    """
    return model._run_forward(model.data_preprocessor(batch, True), mode='loss')


def get_accumulative_counts(optim_wrapper: OptimWrapper) -> int:
    """Return the number of iterations over which gradients are accumulated; 1 if they are not."""
    return getattr(optim_wrapper, '_accumulative_counts', 1)


def start_counting_steps(optimizer: Any) -> None:
    """Make schedules believe that the optimizer has stepped before them; otherwise they warn about a wrong order."""
    optimizer._global_step = 0


# ---- Logs, options ----


@contextmanager
def restore_message_hub(hub: MessageHub) -> Iterator[None]:
    """Restore everything that a message hub holds after a ``with`` block; the hub itself can only add."""
    names = ('_log_scalars', '_runtime_info', '_resumed_keys')
    before = {name: dict(getattr(hub, name)) for name in names}
    # A history replaces its arrays when it grows, so a shallow copy of its attributes is enough.
    histories = [(history, copy.copy(vars(history))) for history in before['_log_scalars'].values()]
    try:
        yield
    finally:
        for name, entries in before.items():
            getattr(hub, name).clear()
            getattr(hub, name).update(entries)
        for history, attributes in histories:
            history.__dict__.clear()
            history.__dict__.update(attributes)


def clear_message_hub(hub: MessageHub) -> None:
    """Remove everything from a message hub, which the next runner of the same name shares; the hub can only add."""
    for name in ('_log_scalars', '_runtime_info', '_resumed_keys'):
        getattr(hub, name).clear()


@contextmanager
def drop_log_records(*texts: str) -> Iterator[None]:
    """Drop the log records that contain one of these texts, while a ``with`` block runs."""
    logger = MMLogger.get_current_instance()

    def keep(record: logging.LogRecord) -> bool:
        return not any(text in record.getMessage() for text in texts)

    logger.addFilter(keep)
    try:
        yield
    finally:
        logger.removeFilter(keep)


def parse_option(text: str) -> Any:
    """Read a number, ``True``, ``False`` or ``None`` as MMEngine's ``--cfg-options`` do; any other text stays."""
    return DictAction._parse_int_float_bool(text)
