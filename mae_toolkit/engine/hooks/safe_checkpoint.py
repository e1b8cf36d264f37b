"""Saving training checkpoints so that at every moment a usable one is on the disk."""

import re
import string
from collections import deque
from contextlib import contextmanager
from pathlib import Path

from mmengine.dist import is_main_process
from mmengine.hooks import CheckpointHook

from mae_toolkit.checkpoints.files import GRIDS
from mae_toolkit.checkpoints.plain_values import make_plain
from mae_toolkit.checkpoints.positions import table_grids
from mae_toolkit.errors import UserError
from mae_toolkit.files import BACKEND, atomic_write, remove_partial
from mae_toolkit.registry import HOOKS, list_arguments, suggest

# Stands for the number in a template of file names.
NUMBER = 9876543210


@HOOKS.register_module()
class SafeCheckpointHook(CheckpointHook):
    """MMEngine's hook, with checkpoints written whole or not at all, and old ones removed only afterwards.

    MMEngine removes the oldest checkpoint first and then writes the new one under its final name, so that a kill or a
    full disk may leave nothing to resume from. What is saved here loads with ``torch.load(weights_only=True)``.

    Only regular files that bear names of this hook and lie in the run's own folder are removed, whatever a checkpoint
    says from which the run is resumed. MMEngine removes what the checkpoint names, in other folders, too.

    Args:
        **kwargs: As for :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        UserError: If checkpoints would fall between two optimizer steps of accumulated gradients, or cannot be
            written.
    """

    def __init__(self, **kwargs):
        known = list_arguments(CheckpointHook)
        for name in kwargs.keys() - known:  # MMEngine's would take and forget it
            raise UserError(f'SafeCheckpointHook has no argument {name!r}{suggest(name, known)}')
        if not isinstance(kwargs.get('interval', 1), int):
            raise UserError(f'SafeCheckpointHook: interval={kwargs["interval"]!r} is no whole number.')
        kwargs.setdefault('backend_args', dict(backend=BACKEND))
        super().__init__(**kwargs)
        _check_template(self.filename_tmpl)

    def before_train(self, runner):
        """Check the interval, clear away what a killed run left, and continue its list of checkpoints."""
        self._check_interval(runner)
        kept = runner.message_hub.runtime_info.pop('keep_ckpt_ids', [])  # or MMEngine's would remove some of them
        super().before_train(runner)
        self._continue_list(runner, kept)
        self._continue_best(runner)
        if is_main_process():
            left = remove_partial(self.out_dir, '*.pth') + remove_partial(runner.work_dir, 'last_checkpoint')
            for path in left:
                runner.logger.info(f'Removed {path}, which a killed run left unfinished.')

    def _continue_list(self, runner, kept):
        """Take over which checkpoints a resumed run has kept, and remove those that are one too many."""
        steps = [step for step in kept if type(step) is int and step >= 0] if isinstance(kept, list) else []
        if steps != kept:
            runner.logger.warning(
                f'The list of kept checkpoints is no list of numbers ({kept!r:.100}): it is left out.'
            )
            steps = []
        if self.max_keep_ckpts > 0:
            if steps:
                runner.message_hub.update_info('keep_ckpt_ids', list(steps))
            self.keep_ckpt_ids = deque(steps)  # no limit: we remove after saving, not by appending
            while len(self.keep_ckpt_ids) > self.max_keep_ckpts:
                self._remove(self._path(self.keep_ckpt_ids.popleft()))

    def _continue_best(self, runner):
        """Take over the best checkpoint of a resumed run if it lies in this run's folder; others stay as they are."""
        if hasattr(self, 'best_ckpt_path'):
            self.best_ckpt_path = self._own_best(runner, self.best_ckpt_path)
        for key, path in getattr(self, 'best_ckpt_path_dict', {}).items():
            self.best_ckpt_path_dict[key] = self._own_best(runner, path)

    def _own_best(self, runner, path):
        if path is None:
            return None
        here = Path(self.out_dir, Path(path).name) if isinstance(path, str) and '\0' not in path else None
        if here is not None and self._is_own(here):  # a folder may have been moved
            return str(here)
        runner.logger.info(f'The best checkpoint so far, {path!r:.200}, is none of {self.out_dir}: it stays as it is.')
        return None

    def before_save_checkpoint(self, runner, checkpoint):
        """Say for which grid positions are; keep only what can be loaded back without executing code."""
        if grids := table_grids(runner.model):
            checkpoint['meta'][GRIDS] = {name.removeprefix('module.'): list(grid) for name, grid in grids.items()}
        make_plain(checkpoint)

    def _check_interval(self, runner):
        counts = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if counts == 1 or self.interval < 1:
            return
        if not self.by_epoch and self.interval % counts:
            raise UserError(
                f'Checkpoints every {self.interval} iterations fall between the optimizer steps, of which there is '
                f'one every {counts} iterations: choose an interval that is a multiple of {counts}.'
            )
        length = len(runner.train_loop.dataloader)
        if self.by_epoch and length * self.interval % counts:
            runner.logger.warning(
                f'An epoch has {length} iterations, no multiple of accumulative_counts={counts}: gradients that are '
                'accumulated when a checkpoint is saved are lost when it is resumed.'
            )

    def _save_checkpoint_with_step(self, runner, step, meta):
        outdated = self._note(runner, step)
        self._save(runner, self.filename_tmpl.format(step), meta)
        if not is_main_process():
            return
        for old in outdated:
            self._remove(self._path(old))
            runner.logger.info(f'Removed the checkpoint of {self.filename_tmpl.format(old)}.')

    def _note(self, runner, step):
        """Add a step to those kept, and return those to remove once it is saved.

        The saved list still names them, so that a run killed before the removal does it when it is resumed.
        """
        if self.max_keep_ckpts <= 0:
            return []
        if step not in self.keep_ckpt_ids:
            self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))
        return [self.keep_ckpt_ids.popleft() for _ in range(len(self.keep_ckpt_ids) - self.max_keep_ckpts)]

    def _save(self, runner, filename, meta):
        path = self.file_backend.join_path(self.out_dir, filename)
        runner.message_hub.update_info('last_ckpt', path)
        options = dict(save_optimizer=self.save_optimizer, save_param_scheduler=self.save_param_scheduler)
        with self._told():
            runner.save_checkpoint(
                self.out_dir, filename, meta=meta, by_epoch=self.by_epoch, backend_args=self.backend_args, **options
            )
            if is_main_process():
                atomic_write(self.file_backend.join_path(runner.work_dir, 'last_checkpoint'), path)
        self.last_ckpt = path

    @contextmanager
    def _told(self):
        """Tell a full disk in one sentence."""
        try:
            yield
        except OSError as error:
            remedy = f'{self.last_ckpt} is whole: make room and resume' if self.last_ckpt else 'make room'
            raise UserError(f'A checkpoint could not be written into {self.out_dir} ({error}); {remedy}.') from error

    def _save_best_checkpoint(self, runner, metrics):
        """As MMEngine's, but the old best is removed after the new one is saved."""
        if not self.save_best:
            return
        backend, self.file_backend = self.file_backend, _LateRemoval(self.file_backend)
        try:
            with self._told():
                super()._save_best_checkpoint(runner, metrics)
            late = self.file_backend.late
        finally:
            self.file_backend = backend
        kept = {getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()}
        for path in late:
            if path not in kept:
                self._remove(path)

    def _path(self, step):
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def _remove(self, path):
        if is_main_process() and self._is_own(path):
            self.file_backend.remove(path)

    def _is_own(self, path):
        """Whether this is a regular file in the run's own folder, under a name that this hook gives."""
        path, folder = Path(path), Path(self.out_dir)
        number = re.escape(self.filename_tmpl.format(NUMBER)).replace(str(NUMBER), r'\d+')
        named = re.fullmatch(rf'(best_.+_)?{number}', path.name)
        return bool(named) and path.parent.absolute() == folder.absolute() and path.is_file() and not path.is_symlink()


def _check_template(template):
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
            f'SafeCheckpointHook: filename_tmpl={template!r} is no file name with one place for the number, as '
            "'epoch_{}.pth' is."
        )


class _LateRemoval:
    """A storage backend that only notes what is to be removed."""

    def __init__(self, backend):
        self.backend, self.late = backend, []

    def __getattr__(self, name):
        return getattr(self.backend, name)

    def remove(self, path):
        self.late.append(path)

    def rmtree(self, path):
        """Never remove a folder: this hook writes none."""
