"""Naming and counting images that could not be read."""

from collections import Counter
from collections.abc import Mapping

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from torch import distributed

from mae_toolkit.datasets.reproducible import REPORT_KEY
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count
from mae_toolkit.registry import HOOKS


@HOOKS.register_module()
class BrokenImagesHook(Hook):
    """Logs each broken image and mask once, counts them, and stops a run that has too many; held-out images, too.

    It reads ``batch['replaced']``, for each image whether it stands in for a broken one, and ``batch['broken']``, a
    list of (name, reason) of all that were tried. Batches of datasets of other libraries have both in a report, which
    is taken out before the model sees them.

    Args:
        max_share (float): Share of the images asked for that may be broken.
        min_seen (int): Images asked for before the share is judged.
        interval (int): Iterations after which several processes put their counts together.

    Raises:
        UserError: If the share is exceeded.
    """

    priority = 'VERY_HIGH'  # other hooks see the batch as the model does

    def __init__(self, max_share=0.05, min_seen=100, interval=20):
        self.max_share, self.min_seen, self.interval = max_share, min_seen, interval
        self.reasons = {}
        self.seen = self.count = 0
        self._skipped = Counter()  # how many files of 'image' and of 'mask' were skipped
        self._new = (0, 0, [])  # images asked for, how many were replaced, and (name, reason, what, whether skipped)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Take the report out of the batch."""
        if isinstance(data_batch, Mapping) and REPORT_KEY in data_batch:
            self._note(data_batch.pop(REPORT_KEY))

    before_val_iter = before_test_iter = before_train_iter

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Note what this batch tells."""
        self._note(data_batch)
        if get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self._count(runner)

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Note what this batch of held-out images tells."""
        self._note(data_batch)

    def after_val_epoch(self, runner, metrics=None):
        """Count the held-out images."""
        self._count(runner)

    after_test_iter, after_test_epoch = after_val_iter, after_val_epoch

    def after_train_epoch(self, runner):
        """Count what is left over."""
        self._count(runner)

    def after_train(self, runner):
        """Tell the count."""
        if self.count:
            counts = [format_count(self._skipped[what], what) for what in ('image', 'mask') if self._skipped[what]]
            verb = 'was' if sum(self._skipped.values()) == 1 else 'were'
            runner.logger.warning(
                f'{" and ".join(counts)} {verb} broken and skipped ({format_count(self.count, "time")}); see the log.'
            )

    def _note(self, batch):
        if not isinstance(batch, Mapping):
            return
        asked, lost, broken = self._new
        replaced, used = batch.get('replaced', ()), batch.get('damaged', ())
        entries = [(*entry[:2], *(entry[2:] or ('image',)), True) for entry in batch.get('broken', ())]
        entries += [(*entry, False) for entry in used]
        self._new = (asked + len(replaced), lost + sum(replaced), broken + entries)

    def _count(self, runner):
        new, self._new = self._new, (0, 0, [])
        for asked, lost, broken in _everyone(new):
            self.seen += asked
            self.count += lost
            for name, reason, what, skipped in broken:
                if name in self.reasons:
                    continue
                self.reasons[name] = reason
                self._skipped[what] += skipped
                fate = f'Broken {what} skipped' if skipped else f'Damaged {what} used as far as it can be decoded'
                runner.logger.warning(f'{fate}: {name} ({reason})')
        if self.seen >= self.min_seen and self.count > self.max_share * self.seen:
            name, reason = next(iter(self.reasons.items()))
            raise UserError(
                f'{self.count} of {self.seen} images read are broken, more than max_share={self.max_share} '
                f'(the first: {name}, {reason}): mend or remove them, or raise max_share of BrokenImagesHook.'
            )


def _everyone(counts):
    if get_world_size() == 1:
        return [counts]
    gathered = [None] * get_world_size()
    distributed.all_gather_object(gathered, counts)
    return gathered
