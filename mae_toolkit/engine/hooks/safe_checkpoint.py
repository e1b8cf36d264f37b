"""Save training checkpoints so that at every moment a usable one is on the disk."""

import operator
import re
import string
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mae_toolkit.checkpoints.files import GRIDS
from mae_toolkit.checkpoints.plain_values import make_plain
from mae_toolkit.checkpoints.positions import table_grids
from mae_toolkit.engine._mmengine import get_accumulative_counts
from mae_toolkit.engine._mmengine_files import ReplaceableCheckpointHook, register_atomic_backend
from mae_toolkit.engine.hooks.interim_checkpoint import (
    PATTERN,
    check_can_save_now,
    find_interim,
    name_interim,
    note_interim,
)
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write, remove_partial
from mae_toolkit.registry import HOOKS, list_arguments, suggest

# Stands for the number of an epoch or iteration in a template of file names.
NUMBER = 9876543210


@HOOKS.register_module()
class SafeCheckpointHook(ReplaceableCheckpointHook):
    """Hook that saves checkpoints as MMEngine's does, each whole or not at all, and removes old ones only afterward.

    MMEngine removes the oldest checkpoint first and then writes the new one under its final name, so that a kill or a
    full disk may leave nothing to resume from. What is saved here loads with ``torch.load(weights_only=True)``.

    Only regular files with names of this hook in the run's own folder are removed, whatever a resumed checkpoint
    says. MMEngine removes whatever that checkpoint names, in other folders, too. Of equally good checkpoints
    (``save_best``) the latest is kept.

    Args:
        **kwargs: Arguments of :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        UserError: If checkpoints would fall between two optimizer steps of accumulated gradients, or cannot be
            written.
    """

    # Of equal results the latest counts as the best, where MMEngine keeps the first: at first, many models predict the
    # same class everywhere, and later ones have learned more than the metric shows.
    rule_map = {'greater': operator.ge, 'less': operator.le}

    def __init__(self, **kwargs: Any) -> None:
        known = list_arguments(ReplaceableCheckpointHook)
        for name in kwargs.keys() - known:  # MMEngine's hook would accept and ignore it
            raise UserError(f'{type(self).__name__} has no argument {name!r}{suggest(name, known)}')
        if not isinstance(kwargs.get('interval', 1), int):
            raise UserError(f'{type(self).__name__}: interval={kwargs["interval"]!r} must be a whole number.')
        kwargs.setdefault('backend_args', dict(backend=register_atomic_backend()))
        super().__init__(**kwargs)
        _check_template(self.filename_tmpl)

    def before_train(self, runner: Runner) -> None:
        """Check the interval, remove what a killed run left unfinished, and continue its list of checkpoints."""
        self._check_interval(runner)
        kept = runner.message_hub.runtime_info.pop('keep_ckpt_ids', [])  # or MMEngine's would remove some of them
        super().before_train(runner)
        self._continue_list(runner, kept)
        self._continue_best(runner)
        if is_main_process():
            left = remove_partial(self.out_dir, '*.pth') + remove_partial(runner.work_dir, 'last_checkpoint')
            for path in left:
                runner.logger.info(f'Removed {path}, which a killed run left unfinished.')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Add the grids of position tables to the meta data; keep only what loads back without executing code."""
        if grids := table_grids(runner.model):
            checkpoint['meta'][GRIDS] = {name.removeprefix('module.'): list(grid) for name, grid in grids.items()}
        make_plain(checkpoint)

    def save_step_checkpoint(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        """Save the checkpoint of an epoch or iteration, then remove those that are too many.

        Args:
            runner: The runner.
            step: Number of the epoch or iteration, for the file name.
            meta: Meta data of the checkpoint.
        """
        outdated = self._note(runner, step)
        self._save(runner, self.filename_tmpl.format(step), meta)
        self._remove_interim(runner, kept=self._path(step))
        if not is_main_process():
            return
        for old in outdated:
            self._remove(self._path(old))
            runner.logger.info(f'Removed the checkpoint of {self.filename_tmpl.format(old)}.')

    def save_now(self, runner: Runner) -> str:
        """Save an interim checkpoint of the iteration that ends, from which the run goes on bit for bit.

        Call it in ``after_train_iter`` of a hook, in all processes at the same iteration, after the hooks that change
        what is saved (priority ``'LOWEST'``). Its name is ``iter_N.pth``, also where the others are named by epochs. It
        is removed once the next checkpoint is saved, in this run or in the one that goes on from it.

        Args:
            runner: The runner.

        Returns:
            The path of the checkpoint. If it is that of a regular checkpoint of this iteration, it stays.

        Raises:
            UserError: If gradients are being accumulated, see
                :func:`~mae_toolkit.engine.hooks.interim_checkpoint.can_save_now`, or the file cannot be written.
        """
        check_can_save_now(runner)
        done, before = runner.iter + 1, find_interim(runner)
        path = self.file_backend.join_path(self.out_dir, name_interim(done))
        if self.last_ckpt != path:
            note_interim(runner, done)
        self._save(runner, name_interim(done), dict(epoch=runner.epoch, iter=done))
        if before not in (None, done):
            self._remove(self.file_backend.join_path(self.out_dir, name_interim(before)))
        return path

    def save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Save the best checkpoint as MMEngine's hook does, but remove the previous best only afterward.

        Args:
            runner: The runner.
            metrics: The metrics of the last validation.
        """
        if not self.save_best:
            return
        backend, self.file_backend = self.file_backend, _LateRemoval(self.file_backend)
        try:
            with self._explain_failed_write():
                super().save_best_checkpoint(runner, metrics)
            outdated = self.file_backend.outdated
        finally:
            self.file_backend = backend
        kept = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for path in outdated:
            if path not in kept:
                self._remove(path)

    def _continue_list(self, runner: Runner, kept: Any) -> None:
        """Take over which checkpoints a resumed run has kept, and remove those that are too many."""
        steps = [step for step in kept if type(step) is int and step >= 0] if isinstance(kept, list) else []
        if steps != kept:
            runner.logger.warning(
                f'The list of kept checkpoints is not a list of numbers ({kept!r:.100}): it is ignored.'
            )
            steps = []
        if self.max_keep_ckpts > 0:
            if steps:
                runner.message_hub.update_info('keep_ckpt_ids', list(steps))
            self.keep_ckpt_ids = deque(steps)  # without a maximum: we remove after saving, not by appending
            while len(self.keep_ckpt_ids) > self.max_keep_ckpts:
                self._remove(self._path(self.keep_ckpt_ids.popleft()))

    def _continue_best(self, runner: Runner) -> None:
        """Take over the best checkpoint of a resumed run if it lies in this run's folder; others stay untouched."""
        if hasattr(self, 'best_ckpt_path'):
            self.best_ckpt_path = self._find_own_best(runner, self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = self._find_own_best(runner, path)

    def _find_own_best(self, runner: Runner, path: Any) -> str | None:
        """Return the path of the best checkpoint in this run's folder, which may have been moved; None if it has none.

        Args:
            runner: The runner.
            path: What the resumed checkpoint names.
        """
        if path is None:
            return None
        here = Path(self.out_dir, Path(path).name) if isinstance(path, str) and '\0' not in path else None
        if here is not None and self._is_own(here):
            return str(here)
        runner.logger.info(f'The best checkpoint so far, {path!r:.200}, is not in {self.out_dir}: it stays as it is.')
        return None

    def _check_interval(self, runner: Runner) -> None:
        """Refuse an interval that would save between two optimizer steps of accumulated gradients."""
        counts = get_accumulative_counts(runner.optim_wrapper)
        if counts == 1 or self.interval < 1:
            return
        if not self.by_epoch and self.interval % counts:
            raise UserError(
                f'Checkpoints every {self.interval} iterations fall between the optimizer steps, and there is '
                f'one every {counts} iterations: choose an interval that is a multiple of {counts}.'
            )
        length = len(runner.train_loop.dataloader)
        if self.by_epoch and length * self.interval % counts:
            runner.logger.warning(
                f'An epoch has {length} iterations, not a multiple of accumulative_counts={counts}: gradients that are '
                'accumulated when a checkpoint is saved are lost when it is resumed.'
            )

    def _note(self, runner: Runner, step: int) -> list[int]:
        """Add a step to those kept, and return those to remove once it is saved.

        The list in the saved checkpoint still names them: a run that is killed before the removal does it when it is
        resumed.
        """
        if self.max_keep_ckpts <= 0:
            return []
        if step not in self.keep_ckpt_ids:
            self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return [self.keep_ckpt_ids.popleft() for _ in range(len(self.keep_ckpt_ids) - self.max_keep_ckpts)]

    def _save(self, runner: Runner, filename: str, meta: dict[str, Any]) -> None:
        path = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', path)
        options = dict(save_optimizer=self.save_optimizer, save_param_scheduler=self.save_param_scheduler)
        with self._explain_failed_write():
            runner.save_checkpoint(
                self.out_dir, filename, meta=meta, by_epoch=self.by_epoch, backend_args=self.backend_args, **options
            )
            if is_main_process():
                atomic_write(self.file_backend.join_path(runner.work_dir, 'last_checkpoint'), path)
        self.last_ckpt = path

    @contextmanager
    def _explain_failed_write(self) -> Iterator[None]:
        """Report a full disk in one sentence, with what is left to resume from."""
        try:
            yield
        except OSError as error:
            remedy = f'{self.last_ckpt} is whole: make room and resume' if self.last_ckpt else 'make room'
            raise UserError(f'A checkpoint could not be written into {self.out_dir} ({error}); {remedy}.') from error

    def _remove_interim(self, runner: Runner, kept: str) -> None:
        """Remove the interim checkpoint that the one just saved has replaced, which still names it."""
        step = find_interim(runner)
        path = step and self.file_backend.join_path(self.out_dir, name_interim(step))
        if path and path != kept:
            self._remove(path)
        note_interim(runner, None)

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _remove(self, path: str) -> None:
        if is_main_process() and self._is_own(path):
            self.file_backend.remove(path)

    def _is_own(self, path: str | Path) -> bool:
        """Return whether this is a regular file in the run's own folder, under a name that this hook gives."""
        path, folder = Path(path), Path(self.out_dir)
        number = re.escape(self.filename_tmpl.format(NUMBER)).replace(str(NUMBER), r'\d+')
        named = re.fullmatch(rf'(best_.+_)?{number}', path.name) or PATTERN.fullmatch(path.name)
        return bool(named) and path.parent.absolute() == folder.absolute() and path.is_file() and not path.is_symlink()


def _check_template(template: str) -> None:
    """Refuse a template of file names that does not give each checkpoint a name of its own in one folder.

    Raises:
        UserError: If it has no place for the number, or more than one, or names a folder.
    """
    try:
        fields = [field for _, field, _, _ in string.Formatter().parse(template) if field is not None]
        names = {template.format(step) for step in (1, 2)}
    except (ValueError, IndexError, KeyError, AttributeError, TypeError):
        fields, names = [], set()
    if len(fields) != 1 or len(names) != 2 or any(Path(name).name != name for name in names):
        raise UserError(
            f'SafeCheckpointHook: filename_tmpl={template!r} must be a file name with one place for the number, '
            "such as 'epoch_{}.pth'."
        )


class _LateRemoval:
    """A storage backend that removes nothing, and only notes in ``outdated`` what was to be removed."""

    def __init__(self, backend: Any) -> None:
        self.backend = backend
        self.outdated: list[str] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self.backend, name)

    def remove(self, path: str) -> None:
        """Note a file."""
        self.outdated.append(path)

    def rmtree(self, path: str) -> None:
        """Never remove a folder: this hook writes none."""
