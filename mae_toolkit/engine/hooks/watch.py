"""Watch what the encoder is worth while it is pretrained, from before the first step."""

import re
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from mmengine.dist import get_world_size, master_only
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from mmengine.runner import Runner

from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.arguments import Number, check_value
from mae_toolkit.engine._mmengine import get_resume
from mae_toolkit.engine._mmengine_files import register_atomic_backend
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.hooks.batch_norm_statistics import BatchNormStatisticsHook
from mae_toolkit.engine.hooks.freeze_encoder import FreezeEncoderHook
from mae_toolkit.engine.watch_clock import WatchClock
from mae_toolkit.engine.watch_record import TITLES, WatchRecord, make_record
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.batch_norm import find_batch_norms
from mae_toolkit.evaluation.labeled_images import Batch, LabeledImages, load_batches, load_labeled_images
from mae_toolkit.evaluation.quality import measure_labeled, measure_unlabeled
from mae_toolkit.registry import HOOKS
from mae_toolkit.visualization.watch_curve import draw_watch

RECORD = 'watch'  # in the message hub, and so in checkpoints
BEST = re.compile(r'best_watch_iter_\d+\.pth')
FEWEST_IMAGES = 64
FEWEST = 3  # measurements: at the start, after a tenth, at the end


@HOOKS.register_module()
class WatchHook(Hook):
    """Hook that measures the encoder on whole images during pretraining, and keeps the weights of its best step.

    The loss of a masked autoencoder does not say whether its encoder gets better: in continued pretraining the loss
    falls while good features are lost. Measured are, before the first step, after a tenth of the training, at its end
    and every ``interval`` iterations or epochs:

    - ``knn``, the accuracy of nearest neighbors, where there are images of labeled classes;
    - ``patch_knn_miou``, the mean IoU of pixels that have the class of the most similar patches, where there are images
      with masks;
    - otherwise ``patch_knn``, how many patches find their own place in another crop of the same image; this compares
      the steps of one training, but not encoders, whose maps differ in stride and receptive field;
    - in all cases the effective rank of the features of images and of patches, which falls if they collapse.

    With labels, all levels of a hierarchical encoder are measured (``knn_level1`` is the finest): the last one may hide
    what the encoder is worth.

    They are in the scalars of the run (``watch/...``), and so in TensorBoard; in ``watch.json``, ``watch.png`` and
    below the losses in ``loss.png``; a table in the log ends the training, with the time that the watch has taken.

    Where the encoder began with weights, those of the step of the best value are kept as ``best_watch_iter_N.pth``;
    they are those of step 0 if all later ones are worse. Such a run that is worse than its start after a tenth of the
    steps in which the encoder trains, or at its end, says so, and what to change. A run from random weights keeps its
    last ones: its measures begin with those of an untrained network, which a short training may not reach although its
    detectors gain.

    Everything that is measured is kept in checkpoints, so that a resumed run goes on with it. The weights are those
    that are trained, not their moving average (``EMAHook``).

    Args:
        labels: Class folders with or without splits, a CSV of files and classes, or a folder of images and masks; see
            :func:`~mae_toolkit.evaluation.labeled_images.read_labeled_set`.
        images: Most images of each split, or without labels; they are kept in memory. In a short training they are
            fewer, see ``share``.
        interval: Iterations between two measurements, or epochs; chosen by ``share`` if None.
        by_epoch: Whether ``interval`` counts epochs.
        share: Share of the time of the training that the watch may take. Without ``interval``, as many images are
            encoded for it at most, in relation to those of the training, and measurements that would take longer are
            left out, but not those of start and end.
        seed: Seed of the crops.
        from_scratch: Whether the encoder began with random weights; found out from its ``init_cfg`` and ``load_from``
            if None.

    Raises:
        UserError: If a number is out of range, ``by_epoch`` is without ``interval``, the model has no encoder, or there
            are no labeled images.
    """

    priority = 'LOW'  # after EMAHook, before the hook of the checkpoints, which hold what is measured

    def __init__(
        self,
        labels: str | None = None,
        images: int = 512,
        interval: int | None = None,
        share: float = 0.03,
        seed: int = 0,
        from_scratch: bool | None = None,
        by_epoch: bool = False,
    ) -> None:
        check_ranges('WatchHook: ', dict(images=images, share=share, seed=seed), HOOK)
        if interval is not None:
            check_value('WatchHook: interval', interval, Number(1, whole=True))
        elif by_epoch:
            raise UserError('WatchHook: by_epoch=True counts interval in epochs, and no interval is set: set both.')
        self.labels, self.images, self.interval, self.by_epoch = labels, images, interval, by_epoch
        self.share, self.seed, self.from_scratch = share, seed, from_scratch
        self._is_keeping = False  # while the weights of the best step are saved

    @master_only
    def before_train(self, runner: Runner) -> None:
        """Load the images, and measure the encoder as it begins; a resumed run goes on with its record."""
        if not hasattr(unwrap(runner.model), 'encoder'):
            raise UserError(f'WatchHook watches an encoder, and a {type(unwrap(runner.model)).__name__} has none.')
        self._clock, self._first = WatchClock(self.share), runner.iter
        with self._clock.load():
            self._labeled, self._batches = self._load(runner)
        saved = runner.message_hub.runtime_info.get(RECORD) if get_resume(runner) else None
        self._record = self._make_record(runner) if saved is None else make_record(saved)
        self._record.iterations = runner.max_iters  # a resumed training may be longer than it was meant to be
        if saved is None:
            self._look(runner, runner.iter)

    @master_only
    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Measure the encoder when it is time."""
        step = runner.iter + 1
        is_optional = self._may_leave_out(step)
        if not self._record.is_due(step) or (is_optional and not self._is_in_time(step)):
            return
        self._look(runner, step, is_optional)
        if step != self._record.tenth or step == self._record.iterations or self._record.from_scratch:
            return
        if self._record.is_worse():
            runner.logger.warning(
                'WatchHook: after a tenth of the training the encoder is worse than at its start: '
                f'{self._record.describe()}. To go on is probably a waste: {self._advise(runner)}.'
            )
        elif self._record.is_collapsing():
            self._warn_of_collapse(runner)

    @master_only
    def after_train(self, runner: Runner) -> None:
        """Log the table, and what came of the training."""
        record = self._record
        self._draw(runner)
        runner.logger.info('\n'.join(['WatchHook:', *record.make_table()]))
        runner.logger.info(f'WatchHook: {record.describe()}. {self._clock.describe()}.')
        if record.from_scratch:
            return
        if record.is_worse():
            runner.logger.warning(
                f'WatchHook: the encoder is worse at the end than at its start: {record.describe()}. Use the weights '
                f'of its best step, and for another run {self._advise(runner)}.'
            )
        elif record.is_collapsing():
            self._warn_of_collapse(runner)

    def _load(self, runner: Runner) -> tuple[LabeledImages | None, list[Batch]]:
        """Load labeled images, or held-out ones, or those of the training."""
        model = unwrap(runner.model)
        count = self._count_images(runner)
        if self.labels is not None:
            item = runner.train_dataloader.dataset[0]['img']
            return load_labeled_images(self.labels, item.shape[-2:], model.encoder.in_chans, count), []
        loader = runner.train_dataloader
        if runner.val_loop is not None and len(runner.val_dataloader.dataset) >= min(count, FEWEST_IMAGES):
            loader = runner.val_dataloader  # held-out images, if they are enough
        return None, load_batches(loader.dataset, count, collate=loader.collate_fn)

    def _count_images(self, runner: Runner) -> int:
        """Return how many images are measured, so that there are at least three measurements within the share."""
        return min(self.images, max(FEWEST_IMAGES, int(self._budget(runner) / FEWEST / 2)))

    def _budget(self, runner: Runner) -> float:
        """Return how many images may be encoded for the watch."""
        batch = runner.train_dataloader.batch_size or 1
        return self.share * runner.max_iters * batch * get_world_size()

    def _make_record(self, runner: Runner) -> WatchRecord:
        if self._labeled is None:
            counted = sum(len(batch['imgs']) for batch in self._batches)
            encoded = 2 * counted
        else:
            counted = sum(len(batch['imgs']) for batch in self._labeled.test)
            encoded = counted + sum(len(batch['imgs']) for batch in self._labeled.train)
        often = max(FEWEST, int(self._budget(runner) / encoded))
        interval = self._count_iterations(runner) or max(1, -(-runner.max_iters // often))
        measure = 'patch_knn'
        if self._labeled is not None:
            measure = 'patch_knn_miou' if self._labeled.has_masks else 'knn'
        waiting = max(
            (hook.count_iterations(runner) for hook in runner.hooks if isinstance(hook, FreezeEncoderHook)), default=0
        )
        scratch = self._is_from_scratch(runner) if self.from_scratch is None else self.from_scratch
        return WatchRecord(measure, counted, runner.max_iters, interval, self.labels, waiting, scratch)

    def _count_iterations(self, runner: Runner) -> int | None:
        """Return the iterations of the interval that is asked for."""
        if self.interval is None or not self.by_epoch:
            return self.interval
        return self.interval * len(runner.train_dataloader)

    def _may_leave_out(self, step: int) -> bool:
        """Return whether a measurement is neither asked for nor needed for what the watch says at its end."""
        is_tenth = step == self._record.tenth and not self._record.from_scratch
        return self.interval is None and not is_tenth and step != self._record.iterations

    def _is_in_time(self, step: int) -> bool:
        record = self._record
        ahead = 1 + (step < record.tenth and not record.from_scratch)
        return self._clock.allows((step - self._first) / (record.iterations - self._first), ahead)

    def _is_from_scratch(self, runner: Runner) -> bool:
        """Return whether neither the encoder nor the whole model began with weights."""
        began = getattr(unwrap(runner.model).encoder, 'init_cfg', None)
        return not began and runner.cfg.get('load_from') is None

    def _look(self, runner: Runner, step: int, is_optional: bool = False) -> None:
        """Measure the encoder after so many steps, and keep what was measured, and the weights if they are the best."""
        with self._clock.measure(is_optional):
            values = self._measure(runner)
            if self._record.add(step, values) and not self._record.from_scratch:
                self._keep_weights(runner, step)
            runner.message_hub.update_info(RECORD, self._record.to_dict())
            self._record.write(runner.work_dir)
            runner.visualizer.add_scalars({f'watch/{name}': value for name, value in values.items()}, step=step)

    def _measure(self, runner: Runner) -> dict[str, float]:
        model, wrapper = unwrap(runner.model), runner.optim_wrapper
        statistics = next((hook for hook in runner.hooks if isinstance(hook, BatchNormStatisticsHook)), None)
        with (
            nullcontext() if statistics is None else statistics.whole_images(runner),
            wrapper.optim_context(runner.model) if isinstance(wrapper, OptimWrapper) else nullcontext(),  # autocast
        ):
            if self._labeled is None:
                return measure_unlabeled(model, self._batches, self.seed)
            return measure_labeled(model, self._labeled, self.seed)

    def _draw(self, runner: Runner) -> None:
        record, folder = self._record, Path(runner.work_dir)
        if record.best_step is None:  # no value is a number
            return
        names = [record.measure, *(f'{record.measure}_level{i}' for i in record.levels)]
        values, ranks, *levels = (
            {int(row['step']): row[name] for row in record.rows} for name in (names[0], 'effective_rank', *names[1:])
        )
        draw_watch(
            values,
            ranks,
            record.best_step,
            folder / 'watch.png',
            TITLES[record.measure],
            folder.name,
            dict(zip((f'level {i}' for i in record.levels), levels, strict=True)),
        )

    def _keep_weights(self, runner: Runner, step: int) -> None:
        """Save the weights, then remove those of the best step before."""
        self._record.checkpoint = f'best_watch_iter_{step}.pth'
        runner.message_hub.update_info(RECORD, self._record.to_dict())
        self._is_keeping = True
        runner.save_checkpoint(
            runner.work_dir,
            self._record.checkpoint,
            save_optimizer=False,
            save_param_scheduler=False,
            meta=dict(epoch=runner.epoch, iter=step),
            backend_args=dict(backend=register_atomic_backend()),
        )
        self._is_keeping = False
        for path in Path(runner.work_dir).glob('best_watch_iter_*.pth'):
            if BEST.fullmatch(path.name) and path.name != self._record.checkpoint and path.is_file():
                path.unlink()

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep the trained weights as the best ones: EMAHook, which comes before, has put their average there."""
        if not self._is_keeping or 'ema_state_dict' not in checkpoint:
            return
        exchanged = checkpoint.pop('ema_state_dict')
        for name, _ in unwrap(runner.model).named_parameters():
            checkpoint['state_dict'][name] = exchanged[f'module.{name}']

    def _warn_of_collapse(self, runner: Runner) -> None:
        first, last = (row['effective_rank'] for row in (self._record.rows[0], self._record.rows[-1]))
        runner.logger.warning(
            f'WatchHook: the features of images spread over {last:.1f} directions, at the start over {first:.1f}: they '
            f'collapse; {self._advise(runner)}.'
        )

    def _advise(self, runner: Runner) -> str:
        """Say what to change in a training that makes the encoder worse."""
        rate = runner.optim_wrapper.optimizer.defaults.get('lr')
        advice = [f'lower the learning rate (now {rate:.3g}) to a third']
        waits = any(isinstance(hook, FreezeEncoderHook) for hook in runner.hooks)
        advice.append('let the encoder wait longer for the decoder' if waits else 'add FreezeEncoderHook(steps=...)')
        if any(norm.training for norm in find_batch_norms(unwrap(runner.model).encoder).values()):
            advice.append('keep the statistics of its batch norms (norm_eval=True)')
        return ', '.join(advice[:-1]) + ' or ' + advice[-1]
