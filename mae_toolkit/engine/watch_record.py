"""What a watch has seen of an encoder during its training, as in ``watch.json`` of the run's folder."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from math import isfinite, sqrt
from pathlib import Path
from typing import Any

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

FILE = 'watch.json'
TITLES = {
    'knn': 'kNN %',
    'patch_knn_miou': 'patch kNN mIoU %',
    'patch_knn': 'patch kNN %',
    'effective_rank': 'rank of images',
    'patch_effective_rank': 'rank of patches',
}
CAVEAT = 'patch kNN compares the steps of one training, not encoders'
COLLAPSED = 0.5  # share of the first effective rank below which features count as collapsing


@dataclass
class WatchRecord:
    """Measures of an encoder at some steps of its training.

    Attributes:
        measure: Name of the measure that decides, ``'knn'``, ``'patch_knn_miou'`` or ``'patch_knn'``, in percent; more
            is better.
        images: Images that the measure counts.
        iterations: Iterations of the training.
        interval: Iterations between two measurements.
        labels: The folder of labeled images, if there is one.
        waiting: Iterations at the start during which the encoder does not train.
        from_scratch: Whether the encoder began with random weights, so that its start is nothing to lose.
        rows: For each measurement its ``step``, which is 0 before training, and its measures by name.
        best_step: Step of the weights that are kept, see :meth:`add`.
        checkpoint: Name of the file with the weights of that step.
    """

    measure: str
    images: int
    iterations: int
    interval: int
    labels: str | None = None
    waiting: int = 0
    from_scratch: bool = False
    rows: list[dict[str, float]] = field(default_factory=list)
    best_step: int | None = None
    checkpoint: str | None = None

    def add(self, step: int, values: Mapping[str, float]) -> bool:
        """Add a measurement, and return whether the weights of its step are to be kept: whether it is the best so far.

        Without labels, the latest of those that differ from the greatest value by chance alone counts as the best:
        places of patches tell of harm, but are no measure by which to choose between nearly equal steps.
        """
        greatest = max((row[self.measure] for row in self.rows if isfinite(row[self.measure])), default=None)
        self.rows.append({'step': step} | dict(values))
        value = values[self.measure]
        is_best = isfinite(value) and (greatest is None or value > greatest)
        if self.measure == 'patch_knn' and greatest is not None:
            is_best |= value >= greatest - self.chance(greatest)
        if is_best:
            self.best_step = step
        return is_best

    @property
    def best(self) -> dict[str, float] | None:
        """The row of the best step."""
        return next((row for row in self.rows if row['step'] == self.best_step), None)

    @property
    def levels(self) -> list[int]:
        """The levels of the encoder that were measured one by one, 1 the finest; empty if it has a single one."""
        prefix = f'{self.measure}_level'
        return sorted(int(name.removeprefix(prefix)) for name in self.rows[0] if name.startswith(prefix))

    def find_best_level(self, row: Mapping[str, float]) -> tuple[float, int]:
        """Return the greatest value of all levels in a row, and its level; of equal ones the finest."""
        values = {level: row[f'{self.measure}_level{level}'] for level in self.levels}
        level = max(values, key=lambda one: values[one] if isfinite(values[one]) else -1.0)
        return values[level], level

    @property
    def tenth(self) -> int:
        """The step at which the encoder has trained for a tenth of its iterations."""
        return max(1, round(self.waiting + max(self.iterations - self.waiting, 0) / 10))

    def is_due(self, step: int) -> bool:
        """Return whether the encoder is to be measured after so many steps."""
        return step % self.interval == 0 or step in (self.tenth, self.iterations)

    def is_worse(self) -> bool:
        """Return whether the last value is below the first one by more than chance."""
        first, last = (row[self.measure] for row in (self.rows[0], self.rows[-1]))
        return not last >= first - self.chance(first)

    def chance(self, value: float) -> float:
        """Return the standard error of a value in percent, which is a share of so many images.

        Of a mean IoU it is a bound, as if all pixels of an image were right or wrong together.
        """
        share = min(max(value / 100, 0.0), 1.0)
        return 100 * sqrt(share * (1 - share) / self.images)

    def is_collapsing(self) -> bool:
        """Return whether the features of images have lost half of their directions since the first measurement."""
        return self.rows[-1]['effective_rank'] < COLLAPSED * self.rows[0]['effective_rank']

    def describe(self) -> str:
        """Say in one sentence how the encoder has changed since its start."""
        name, first, last, best = TITLES[self.measure], self.rows[0], self.rows[-1], self.best
        text = (
            f'{name} {first[self.measure]:.1f} at step {first["step"]}, {last[self.measure]:.1f} at step {last["step"]}'
        )
        if best is not None and best not in (first, last):
            text += f', {best[self.measure]:.1f} at its best, step {best["step"]}'
        kept = [f'{self.checkpoint}{self._explain_best()}'] if self.checkpoint else []
        return text + ''.join(f' ({name})' for name in kept) + self._describe_levels()

    def _describe_levels(self) -> str:
        """Say which level was better at the end than the one by which the run is judged; empty if none was."""
        if not self.levels:
            return ''
        (value, level), last = self.find_best_level(self.rows[-1]), self.rows[-1][self.measure]
        first = self.rows[0][f'{self.measure}_level{level}']
        return f'; by level {level} of {len(self.levels)}, {first:.1f} and {value:.1f}' if value > last else ''

    def _explain_best(self) -> str:
        """Say that the best value is not the greatest, or no more than chance above the first; empty if it is."""
        best, first = self.best, self.rows[0]
        if best is None or best is first:
            return ''
        greatest = max(row[self.measure] for row in self.rows if isfinite(row[self.measure]))
        chance = self.chance(greatest)
        if best[self.measure] < greatest:
            return f', the latest within chance, ±{chance:.1f}, of the greatest value, {greatest:.1f}'
        return (
            f', no more above the start than chance, ±{chance:.1f}' if greatest - chance <= first[self.measure] else ''
        )

    def make_table(self) -> list[str]:
        """Return the lines of a table of all measurements."""
        names = [name for name in TITLES if name in self.rows[0]]
        titles = [TITLES[name] for name in names] + (['of best level'] if self.levels else [])
        lines = ['  '.join(['    step', *(f'{title:>16}' for title in titles)])]
        for row in self.rows:
            cells = [f'{row[name]:.1f}' for name in names]
            if self.levels:
                value, level = self.find_best_level(row)
                cells.append(f'{value:.1f} (level {level})')
            mark = ' best' if row['step'] == self.best_step else ''
            lines.append('  '.join([f'{row["step"]:8}', *(f'{cell:>16}' for cell in cells)]) + mark)
        return lines + ([f'({CAVEAT})'] if self.measure == 'patch_knn' else [])

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values."""
        return asdict(self)

    def write(self, folder: str | Path) -> None:
        """Write the record into the folder of a run, with ``is_worse`` and a sentence beside it."""
        said = dict(is_worse=self.is_worse(), summary=self.describe()) if self.rows else {}
        atomic_write(Path(folder) / FILE, json.dumps(self.to_dict() | said, indent=2) + '\n')


def make_record(content: Any) -> WatchRecord:
    """Make a record of plain values.

    Raises:
        ValueError: If they are not those of a record.
    """
    names = set(WatchRecord.__dataclass_fields__)
    try:
        record = WatchRecord(**{name: value for name, value in dict(content).items() if name in names})
        rows = [{str(name): float(value) for name, value in row.items()} for row in record.rows]
        record.rows = [row | {'step': int(row['step'])} for row in rows]
        if any(record.measure not in row for row in rows):
            raise ValueError(f'a row has no {record.measure}')
    except (TypeError, KeyError, AttributeError) as error:
        raise ValueError(str(error)) from error
    return record


def read_watch(folder: str | Path) -> WatchRecord | None:
    """Read what the watch of a run has seen; None where there was none.

    Args:
        folder: The folder of the run.

    Raises:
        UserError: If its file is damaged.
    """
    file = Path(folder) / FILE
    try:
        return make_record(json.loads(file.read_text()))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f'{file} is damaged ({error}): delete it.') from None
