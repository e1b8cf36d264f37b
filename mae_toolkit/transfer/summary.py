"""Means and spreads of the results of a table."""

from statistics import mean, stdev
from typing import NamedTuple

NOTHING = '\N{EN DASH}'  # a cell in which nothing ran


class Column(NamedTuple):
    """A task, a share of its labels, and a metric."""

    task: str
    labels: float
    metric: object

    @property
    def title(self):
        """Of the column in the table."""
        return f'{self.task} {self.metric.name}, {100 * self.labels:g}%'


class Cell(NamedTuple):
    """What several seeds gave.

    Attributes:
        values (list[float]): Per seed, in the order of the YAML, multiplied by the metric's scale.
        results (list[dict]): The results behind them.
        wanted (int): Seeds that were asked for.
    """

    values: list
    results: list
    wanted: int

    @property
    def mean(self):
        """None where nothing ran."""
        return mean(self.values) if self.values else None

    @property
    def std(self):
        """Of the sample (n - 1); None below two seeds."""
        return stdev(self.values) if len(self.values) > 1 else None

    @property
    def complete(self):
        """Whether all seeds ran."""
        return len(self.values) == self.wanted


def columns(experiment):
    """Columns of the table."""
    return [
        Column(task.name, share, metric)
        for task in experiment.tasks
        for share in experiment.labels
        for metric in task.metrics
    ]


def cells(experiment, results):
    """Cells by (name of the encoder, column).

    Args:
        experiment (Experiment): Says which there are.
        results (list[dict]): Contents of ``result.json``, one at most per encoder, task, share and seed.
    """
    known = {(r['encoder'], r['task'], r['labels'], r['seed']): r for r in results}
    table = {}
    for source in experiment.encoders:
        for column in columns(experiment):
            keys = [(source.name, column.task, column.labels, seed) for seed in experiment.seeds]
            found = [known[key] for key in keys if key in known and column.metric.key in known[key]['metrics']]
            values = [column.metric.scale * result['metrics'][column.metric.key] for result in found]
            table[source.name, column] = Cell(values, found, len(experiment.seeds))
    return table


def best(experiment, table, column):
    """The encoder that is clearly best in a column, or None.

    It is so if every encoder has all its seeds, two at least, and the lead over the next is greater than the standard
    deviations of both together.
    """
    found = [(source.name, table[source.name, column]) for source in experiment.encoders]
    if len(found) < 2 or any(not cell.complete or cell.std is None for _, cell in found):
        return None
    (name, first), (_, second) = sorted(found, key=lambda item: item[1].mean, reverse=True)[:2]
    return name if first.mean - second.mean > first.std + second.std else None


def text_of(cell):
    """A cell as text: mean ± standard deviation, with n where seeds are missing."""
    if not cell.values:
        return NOTHING
    spread = '' if cell.std is None else f' ± {cell.std:.1f}'
    count = '' if cell.complete and cell.std is not None else f' (n={len(cell.values)})'
    return f'{cell.mean:.1f}{spread}{count}'
