"""Save training checkpoints as folders into which every process writes its part while the training goes on."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.runner import Runner

from mae_toolkit.checkpoints.links import set_link
from mae_toolkit.checkpoints.publishing import publish_folder, remove_folder, remove_unfinished
from mae_toolkit.checkpoints.retention import choose_outdated
from mae_toolkit.checkpoints.sharded import SUFFIX
from mae_toolkit.engine.checkpoint_contents import collect_checkpoint
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.hooks.interim_checkpoint import check_can_save_now
from mae_toolkit.engine.hooks.safe_checkpoint import SafeCheckpointHook
from mae_toolkit.engine.sharded_writer import ShardedWriter
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.registry import HOOKS

BEST, LAST = 'best', 'last'
UNUSED = ('filename_tmpl', 'published_keys', 'file_client_args', 'backend_args')


@HOOKS.register_module()
class ShardedCheckpointHook(SafeCheckpointHook):
    """Hook that saves checkpoints as folders ``iter_N.dcp`` or ``epoch_N.dcp`` of ``torch.distributed.checkpoint``.

    Every process writes a part of the tensors: with data parallelism they share the work, with ``fully_shard`` each
    writes what it holds. A folder is written under a hidden name and gets its own when all of it is on the disk; one
    that has its name is never written to again. It can be resumed with any number of processes, and holds the same as
    the one file of :class:`SafeCheckpointHook`.

    With ``asynchronous``, the training waits only until the tensors are copied to memory; the folder gets its name
    once a thread has written it, at the latest at the next save, at the end of the training, and before
    :meth:`save_now` returns. A save that fails in the thread is reported when it fails, and the next one is not
    asynchronous, so that it ends the run if it fails, too.

    The links ``last`` and ``best`` (``best_<metric>`` with several of them) stand for the newest checkpoint and the one
    of the best validation. A checkpoint that a link in the folder names, yours included, is not removed.

    Args:
        asynchronous: Whether to write in a thread while the training goes on.
        keep_every: Epochs, or iterations with ``by_epoch=False``, of which every multiple is kept for good.
        **kwargs: Arguments of :class:`mmengine.hooks.CheckpointHook`, but for those of single files.

    Raises:
        UserError: If an argument is not one of this hook, or as :class:`SafeCheckpointHook`.
    """

    def __init__(self, asynchronous: bool = True, keep_every: int | None = None, **kwargs: Any) -> None:
        if wrong := sorted(kwargs.keys() & set(UNUSED)):
            raise UserError(f'ShardedCheckpointHook writes folders and has no {wrong[0]}: leave it out.')
        if keep_every is not None and (type(keep_every) is not int or keep_every < 1):
            raise UserError(f'ShardedCheckpointHook: keep_every={keep_every!r} must be a whole number of 1 or more.')
        unit = 'epoch' if kwargs.get('by_epoch', True) else 'iter'
        self.most = kwargs.pop('max_keep_ckpts', -1)  # what is in the folder counts, not the list in the message hub
        super().__init__(filename_tmpl=f'{unit}_{{}}{SUFFIX}', **kwargs)
        self.asynchronous, self.keep_every = asynchronous, keep_every
        self._has_failed = False
        self._saved = ''  # name of the last folder that was begun

    def before_train(self, runner: Runner) -> None:
        """Remove what a killed run left unfinished, and find its best checkpoint."""
        super().before_train(runner)
        if is_main_process():
            for path in remove_unfinished(self.out_dir):
                runner.logger.info(f'Removed {path}, which a killed run left unfinished.')
        self._continue_scores(runner)
        parameters = {name for name, _ in unwrap(runner.model).named_parameters()}
        self._meta: dict[str, Any] = {}
        self._writer = ShardedWriter(parameters, lambda folder: self._publish(runner, folder))

    def after_train(self, runner: Runner) -> None:
        """Wait for the last checkpoint; if it could not be written in a thread, write it again."""
        if self._wait(runner) and self._meta['iter'] == runner.iter:
            self._write(runner, self._saved, self._meta)
        self._writer.close()

    def save_now(self, runner: Runner) -> str:
        """Save an interim checkpoint, see :meth:`SafeCheckpointHook.save_now`, and return when it is whole."""
        check_can_save_now(runner)
        self._wait(runner)
        meta = dict(epoch=runner.epoch, iter=runner.iter + 1)
        name = f'iter_{meta["iter"]}{SUFFIX}'
        if self._has_failed or name != self._saved:
            self._write(runner, name, meta | {'interim': True})
        return str(self.last_ckpt)

    def finish(self, runner: Runner) -> None:
        """Wait until the checkpoint that is being written, if one is, has its name; all processes call it."""
        self._wait(runner)

    def save_best_checkpoint(self, runner: Runner, metrics: dict[str, Any]) -> None:
        """Let the link ``best`` stand for the checkpoint of this step if a metric has improved.

        Args:
            runner: The runner.
            metrics: The metrics of the last validation.
        """
        if not self.save_best or not (improved := self._find_improved(runner, metrics)):
            return
        step = runner.epoch if self.by_epoch else runner.iter
        name = self.filename_tmpl.format(step)
        self._wait(runner)
        if self._has_failed or name != self._saved:
            self._write(runner, name, dict(epoch=runner.epoch, iter=runner.iter))
        if not is_main_process():
            return
        scores = self._read_scores()
        for metric, score in improved.items():
            self._link(runner, self._name_link(metric), name)
            scores[metric] = dict(score=score, iter=runner.iter, checkpoint=name)
            runner.logger.info(f'The best checkpoint with {score:0.4f} {metric} is {name}.')
        atomic_write(self._scores, json.dumps(scores, indent=1) + '\n')

    def save_step_checkpoint(self, runner: Runner, step: int, meta: dict[str, Any]) -> None:
        """Save the checkpoint of an epoch or iteration; once it is whole, those that are too many are removed."""
        self._save(runner, self.filename_tmpl.format(step), meta)

    def _find_improved(self, runner: Runner, metrics: dict[str, Any]) -> dict[str, float]:
        """Return the metrics that are better than ever, and note them in the message hub."""
        self.resolve_auto(metrics)
        improved = {}
        for metric, rule in zip(self.key_indicators, self.rules, strict=True):
            score, key = metrics[metric], self._name_score(metric)
            best = runner.message_hub.runtime_info.get(key, self.init_value_map[rule])
            if score is not None and self.is_better_than[metric](score, best):
                improved[metric] = float(score)
                runner.message_hub.update_info(key, float(score))
        return improved

    def _save(self, runner: Runner, filename: str, meta: dict[str, Any]) -> None:
        self._wait(runner)
        if filename == self._saved and not self._has_failed:
            return
        if not self.asynchronous or self._has_failed:
            self._write(runner, filename, meta)
            return
        with self._noting_failure():
            self._writer.start(self._path_of(filename), self._collect(runner, filename, meta))

    def _write(self, runner: Runner, filename: str, meta: dict[str, Any]) -> None:
        """Save in this thread."""
        with self._noting_failure():
            self._writer.write(self._path_of(filename), self._collect(runner, filename, meta))
        self._has_failed = False
        self.last_ckpt = str(self._path_of(filename))

    def _collect(self, runner: Runner, filename: str, meta: dict[str, Any]) -> dict[str, Any]:
        self._saved, self._meta = filename, dict(meta)
        runner.message_hub.update_info('last_ckpt', str(self._path_of(filename)))
        numbers = dict(epoch=meta['epoch'], iter=meta['iter'])
        return collect_checkpoint(runner, numbers, self.save_optimizer, self.save_param_scheduler)

    def _wait(self, runner: Runner) -> bool:
        """Wait until the save in the thread, if there is one, has ended; returns whether it has failed."""
        error = self._writer.wait()
        if error is not None:
            self._has_failed = True
            remedy = f'{self.last_ckpt} is whole' if self.last_ckpt else 'there is none to resume from yet'
            runner.logger.error(f'{self._saved} could not be written ({error!r}); {remedy}; the next save waits.')
        elif self._saved:
            self.last_ckpt = str(self._path_of(self._saved))
        return error is not None

    def _publish(self, runner: Runner, folder: Path) -> None:
        """Give a folder its name, let ``last`` stand for it, and remove what is too much, in the first process."""
        if not is_main_process():
            return
        meta = self._meta
        if aside := publish_folder(folder, meta, bool(meta.get('interim'))):
            runner.logger.warning(f'{folder} was there already; the one before is now {aside}, which you may remove.')
        self._link(runner, LAST, folder.name)
        atomic_write(Path(runner.work_dir, 'last_checkpoint'), str(folder))
        for path in choose_outdated(folder.parent, meta['iter'], self.most, self.keep_every, self.by_epoch):
            remove_folder(path)
            runner.logger.info(f'Removed the checkpoint {path.name}.')

    def _link(self, runner: Runner, name: str, target: str) -> None:
        try:
            set_link(Path(self.out_dir), name, target)
        except FileExistsError as error:
            runner.logger.warning(f'{error}: there is no link {name!r} to {target}.')

    def _continue_scores(self, runner: Runner) -> None:
        """Take over the best results of a resumed run, which are later than its checkpoint."""
        for metric, entry in self._read_scores().items() if runner.iter else ():
            one = entry if isinstance(entry, dict) else {}
            score, done, name = (one.get(key) for key in ('score', 'iter', 'checkpoint'))
            known = isinstance(score, (int, float)) and isinstance(done, int) and done <= runner.iter
            if known and isinstance(name, str) and Path(self.out_dir, Path(name).name).is_dir():
                runner.message_hub.update_info(self._name_score(metric), score)

    def _read_scores(self) -> dict[str, Any]:
        try:
            scores = json.loads(self._scores.read_text())
        except (OSError, ValueError):
            return {}
        return scores if isinstance(scores, dict) else {}

    @property
    def _scores(self) -> Path:
        return Path(self.out_dir, 'best.json')

    def _name_score(self, metric: str) -> str:
        return 'best_score' if len(self.save_best or ()) == 1 else f'best_score_{metric}'  # as MMEngine does

    def _name_link(self, metric: str) -> str:
        return BEST if len(self.save_best or ()) == 1 else f'{BEST}_{metric.replace("/", "_")}'

    def _path_of(self, filename: str) -> Path:
        return Path(self.out_dir, filename)

    @contextmanager
    def _noting_failure(self) -> Iterator[None]:
        """Remember that a save has failed, and report a full disk in one sentence."""
        try:
            with self._explain_failed_write():
                yield
        except Exception:
            self._has_failed = True
            raise
