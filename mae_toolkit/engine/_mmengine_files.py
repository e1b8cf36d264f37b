"""What leans on MMEngine's private parts in saving and reading files.

See :mod:`mae_toolkit.engine._mmengine`, which has the rest.
"""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mmengine.fileio import LocalBackend, register_backend, register_handler
from mmengine.hooks import CheckpointHook
from mmengine.runner import CheckpointLoader
from mmengine.runner import Runner as MMEngineRunner

from mae_toolkit.files import atomic_write

ATOMIC_BACKEND = 'mae_toolkit_atomic'


class ReplaceableCheckpointHook(CheckpointHook):
    """MMEngine's checkpoint hook with public names for its two ways to save, so that a subclass can replace them."""

    file_backend: Any
    best_ckpt_path: Any

    def save_step_checkpoint(self, runner: MMEngineRunner, step: int, meta: dict[str, Any]) -> None:
        """Save the checkpoint of an epoch or iteration, and remove the oldest if there are more than are kept."""
        super()._save_checkpoint_with_step(runner, step, meta)

    def save_best_checkpoint(self, runner: MMEngineRunner, metrics: dict[str, Any]) -> None:
        """Save the checkpoint as the best one if a metric has improved, and remove the best one before it."""
        super()._save_best_checkpoint(runner, metrics)

    def resolve_auto(self, metrics: dict[str, Any]) -> None:
        """Let ``save_best='auto'`` mean the first of the metrics."""
        if 'auto' in self.key_indicators:
            self._init_rule(self.rules, [next(iter(metrics))])

    def _save_checkpoint_with_step(self, runner: MMEngineRunner, step: int, meta: dict[str, Any]) -> None:
        self.save_step_checkpoint(runner, step, meta)

    def _save_best_checkpoint(self, runner: MMEngineRunner, metrics: dict[str, Any]) -> None:
        self.save_best_checkpoint(runner, metrics)


def check_ranking(hook: CheckpointHook, metric: str) -> None:
    """Ask a checkpoint hook whether it knows if more of a metric is better, without a change to the hook.

    Raises:
        ValueError: If it does not.
    """
    hook = copy.copy(hook)
    hook.is_better_than = {}
    hook._init_rule(hook.rules, [metric])


class AtomicBackend(LocalBackend):
    """MMEngine's storage on local disks, with files written by :func:`~mae_toolkit.files.atomic_write`."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to a file, whole or not at all."""
        atomic_write(filepath, obj)

    def put_text(self, obj: str, filepath: str | Path, encoding: str = 'utf-8') -> None:
        """Write text to a file, whole or not at all."""
        atomic_write(filepath, obj.encode(encoding))


def register_atomic_backend() -> str:
    """Make :class:`AtomicBackend` known to MMEngine, and return the name by which ``backend_args`` ask for it."""
    register_backend(ATOMIC_BACKEND, AtomicBackend, force=True)
    return ATOMIC_BACKEND


def replace_checkpoint_loaders(
    load_local: Callable[..., Any], wrap: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> None:
    """Replace the loaders of MMEngine's ``CheckpointLoader``, by which MMDetection and MMSegmentation read weights.

    MMEngine has no way to list them. Calling this twice changes nothing more.

    Args:
        load_local: Loads a file from the disk.
        wrap: Makes a safe loader of one for files from elsewhere (``http://``, ``torchvision://`` ...), and sets its
            ``__wrapped__``, as :func:`functools.wraps` does.
    """
    CheckpointLoader.register_scheme('', load_local, force=True)
    for prefix, loader in list(CheckpointLoader._schemes.items()):
        if prefix and not hasattr(loader, '__wrapped__'):
            CheckpointLoader.register_scheme(prefix, wrap(loader), force=True)


def replace_file_handlers(pickle_handler: type, yaml_handler: type) -> None:
    """Replace the classes by which ``mmengine.fileio`` reads .pkl and .yaml files, in the whole process."""
    register_handler(['pickle', 'pkl'])(pickle_handler)
    register_handler(['yaml', 'yml'])(yaml_handler)
