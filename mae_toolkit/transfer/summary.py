"""Means and spreads of the results of a table."""

from collections.abc import Iterable
from statistics import mean, stdev
from typing import NamedTuple

from mae_toolkit.transfer.experiment import Experiment
from mae_toolkit.transfer.run_records import RunResult
from mae_toolkit.transfer.tasks import Metric

NOTHING = '\N{EN DASH}'  # a cell in which nothing ran


class Column(NamedTuple):
    """A task, a fraction of its labels, and a metric."""

    task: str
    label_fraction: float
    metric: Metric

    @property
    def title(self) -> str:
        """Heading in the table."""
        return f'{self.task} {self.metric.name}, {100 * self.label_fraction:g}%'


class Cell(NamedTuple):
    """Results of several seeds.

    Attributes:
        values: Numbers per seed, in the order of the YAML, multiplied by the metric's scale.
        results: The results behind them.
        wanted: How many seeds were asked for.
    """

    values: list[float]
    results: list[RunResult]
    wanted: int

    @property
    def mean(self) -> float | None:
        """Mean over the seeds; None where nothing ran."""
        return mean(self.values) if self.values else None

    @property
    def std(self) -> float | None:
        """Standard deviation of the sample (n - 1); None below two seeds."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def complete(self) -> bool:
        """Whether all seeds ran."""
        return len(self.values) == self.wanted


Table = dict[tuple[str, Column], Cell]  # by the name of the encoder and the column


def list_columns(experiment: Experiment) -> list[Column]:
    """List the columns of the table of an experiment."""
    return [
        Column(task.name, label_fraction, metric)
        for task in experiment.tasks
        for label_fraction in experiment.label_fractions
        for metric in task.metrics
    ]


def make_cells(experiment: Experiment, results: Iterable[RunResult]) -> Table:
    """Sort results into the cells of a table.

    Args:
        experiment: Says which cells there are.
        results: One at most per encoder, task, fraction of the labels and seed.
    """
    known = {(r.encoder, r.task, r.label_fraction, r.seed): r for r in results}
    table = {}
    for entry in experiment.encoders:
        for column in list_columns(experiment):
            keys = [(entry.name, column.task, column.label_fraction, seed) for seed in experiment.seeds]
            found = [known[key] for key in keys if key in known and column.metric.key in known[key].metrics]
            values = [column.metric.scale * result.metrics[column.metric.key] for result in found]
            table[entry.name, column] = Cell(values, found, len(experiment.seeds))
    return table


def find_best(experiment: Experiment, table: Table, column: Column) -> str | None:
    """Find the encoder that is clearly best in a column, or None.

    It is so if every encoder has all its seeds, two at least, and the lead over the next is greater than the standard
    deviations of both together.
    """
    cells = {entry.name: table[entry.name, column] for entry in experiment.encoders}
    if len(cells) < 2 or any(not cell.complete or cell.std is None for cell in cells.values()):
        return None
    first, second = sorted(cells, key=lambda name: mean(cells[name].values), reverse=True)[:2]
    lead = mean(cells[first].values) - mean(cells[second].values)
    return first if lead > stdev(cells[first].values) + stdev(cells[second].values) else None


def format_cell(cell: Cell) -> str:
    """Write a cell as mean ± standard deviation, with n where seeds are missing."""
    if not cell.values:
        return NOTHING
    spread = '' if cell.std is None else f' ± {cell.std:.1f}'
    count = '' if cell.complete and cell.std is not None else f' (n={len(cell.values)})'
    return f'{cell.mean:.1f}{spread}{count}'
