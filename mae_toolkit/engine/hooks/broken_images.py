"""Log and count images that could not be read."""

from collections import Counter
from collections.abc import Mapping, MutableMapping
from typing import Any

from mmengine.dist import get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed

from mae_toolkit.datasets.reproducible import REPORT_KEY
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count
from mae_toolkit.protocols import TakesNotes
from mae_toolkit.registry import HOOKS


@HOOKS.register_module()
class BrokenImagesHook(Hook):
    """Hook that logs each broken image and mask once, and stops a run in which too many are broken.

    The hook reads ``batch['replaced']``, which says for each image whether it stands in for a broken one, and
    ``batch['broken']``, a list of (name, reason) of all that were tried. Batches of other libraries' datasets have both
    in a report, which is removed before the model sees the batch.

    ``batch['notes']``, and datasets that :class:`~mae_toolkit.protocols.TakesNotes`, say which sources of data are slow
    or damaged, which is logged.

    Args:
        max_share: Fraction of the requested images that may be broken, 0 to 1; held-out images count, too.
        min_seen: Number of requested images before the share is judged.
        interval: Iterations after which several processes add up their counts.

    Raises:
        UserError: If the share is exceeded.
    """

    priority = 'VERY_HIGH'  # other hooks see the batch as the model does

    def __init__(self, max_share: float = 0.05, min_seen: int = 100, interval: int = 20) -> None:
        self.max_share, self.min_seen, self.interval = max_share, min_seen, interval
        self.reasons: dict[str, str] = {}
        self.seen = self.count = 0
        self._skipped: Counter[str] = Counter()  # skipped files by 'image' and 'mask'
        # Since the last count: images requested, images replaced, and (name, reason, 'image' or 'mask', skipped).
        self._new: tuple[int, int, list] = (0, 0, [])
        self._datasets: list[TakesNotes] = []
        self._said: set[str] = set()
        self._notes: list[str] = []  # of slow or damaged sources since the last count

    def before_train(self, runner: Runner) -> None:
        """Keep the dataset, which may have notes of its own."""
        self._keep(runner.train_dataloader)

    def before_val(self, runner: Runner) -> None:
        """Keep the dataset, which may have notes of its own."""
        self._keep(runner.val_dataloader)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Remove the report from the batch, and note what it says."""
        if isinstance(data_batch, MutableMapping) and REPORT_KEY in data_batch:
            self._note(data_batch.pop(REPORT_KEY))

    before_val_iter = before_test_iter = before_train_iter

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note which images of the batch are broken, and count them."""
        self._note(data_batch)
        if get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self._count(runner)

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note which held-out images of the batch are broken."""
        self._note(data_batch)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Count the broken held-out images."""
        self._count(runner)

    after_test_iter, after_test_epoch = after_val_iter, after_val_epoch

    def after_train_epoch(self, runner: Runner) -> None:
        """Count what has not been counted yet."""
        self._count(runner)

    def after_train(self, runner: Runner) -> None:
        """Log how many images were skipped in all."""
        if self.count:
            counts = [format_count(self._skipped[what], what) for what in ('image', 'mask') if self._skipped[what]]
            verb = 'was' if sum(self._skipped.values()) == 1 else 'were'
            runner.logger.warning(
                f'{" and ".join(counts)} {verb} broken and skipped ({format_count(self.count, "time")}); see the log.'
            )

    def _keep(self, loader: Any) -> None:
        dataset = getattr(loader, 'dataset', None)
        if isinstance(dataset, TakesNotes) and not any(dataset is other for other in self._datasets):
            self._datasets.append(dataset)

    def _note(self, batch: Any) -> None:
        if not isinstance(batch, Mapping):
            return
        requested, lost, broken = self._new
        self._notes += batch.get('notes', ())
        replaced, used = batch.get('replaced', ()), batch.get('damaged', ())
        entries = [(*entry[:2], *(entry[2:] or ('image',)), True) for entry in batch.get('broken', ())]
        entries += [(*entry, False) for entry in used]
        self._new = (requested + len(replaced), lost + sum(replaced), broken + entries)

    def _count(self, runner: Runner) -> None:
        new, self._new = self._new, (0, 0, [])
        notes, self._notes = self._notes + [note for dataset in self._datasets for note in dataset.take_notes()], []
        everyone = _gather_counts((*new, notes))
        for note in dict.fromkeys(note for counts in everyone for note in counts[3]):
            if note not in self._said:  # workers and processes find the same damage
                self._said.add(note)
                runner.logger.warning(note)
        for requested, lost, broken, _ in everyone:
            self.seen += requested
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


def _gather_counts(counts: tuple[int, int, list, list]) -> list[tuple[int, int, list, list]]:
    """Return the counts of all processes."""
    if get_world_size() == 1:
        return [counts]
    gathered: list[Any] = [None] * get_world_size()
    distributed.all_gather_object(gathered, counts)
    return gathered
