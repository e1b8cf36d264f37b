"""Compare what runs logged: curves, and a table of speeds and last values."""

import io
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from mae_toolkit.files import atomic_write
from mae_toolkit.planning.table import format_table
from mae_toolkit.visualization.run_curves import draw_runs
from mae_toolkit.visualization.run_logs import RunLog, find_keys, read_run_logs

SHARE = 0.1  # of the intervals in which a rank was slow, from which on it is named


@dataclass(frozen=True)
class LogSummary:
    """A run in numbers.

    Attributes:
        run: Its name.
        path: Its folder.
        iterations: Iterations that were logged.
        starts: How often it was started.
        hours: Hours of training, without the gaps between starts; None where no times were logged.
        step_time: Mean seconds of a step.
        data_share: Share of the steps' time that waits for data.
        images_per_s: Mean images per second of all processes.
        peak_share: Mean share of the device's peak.
        memory_gb: The most memory of a process.
        last: Last values by key; None for a key that the run did not log.
        stragglers: Share of the intervals in which a rank was slow, by its name.
    """

    run: str
    path: str
    iterations: int
    starts: int
    hours: float | None
    step_time: float | None
    data_share: float | None
    images_per_s: float | None
    peak_share: float | None
    memory_gb: float | None
    last: dict[str, float | None] = field(default_factory=dict)
    stragglers: dict[str, float] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Return all of it as plain values."""
        return asdict(self)


def analyze_logs(
    folders: Sequence[str | Path],
    keys: Sequence[str] = ('loss',),
    out: str | Path | None = None,
    axis: str = 'iterations',
    weight: float = 0.0,
) -> list[LogSummary]:
    """Compare what runs logged, over all their starts.

    Args:
        folders: The work directories.
        keys: Values that are drawn, and whose last ones are returned: names such as ``'val/loss'``, or ``'loss'`` for
            ``'train/loss'``.
        out: The PNG for the curves; none are drawn if None.
        axis: ``'iterations'``, ``'epochs'`` or ``'hours'``.
        weight: How much curves are smoothed, from 0 to below 1.

    Raises:
        UserError: If a folder holds no logs, no run has a key, or one did not log what the axis needs.
    """
    logs = read_run_logs(folders)
    names = {key: find_keys(logs, key) for key in keys}
    if out is not None:
        picture = io.BytesIO()
        draw_runs(logs, keys, picture, axis, weight)
        atomic_write(out, picture.getvalue())
    return [summarize_log(log, {key: found.get(log.name) for key, found in names.items()}) for log in logs]


def summarize_log(log: RunLog, names: dict[str, str | None]) -> LogSummary:
    """Compute the numbers of a run.

    Args:
        log: What it logged.
        names: The name in its logs of each key; None for a key that it did not log.
    """
    step_time = _average(log, ('speed/step_time', 'train/time', 'time'))
    data_time = _average(log, ('speed/data_time', 'train/data_time', 'data_time'))
    hours = log.compute_hours()
    memory = log.series.get('speed/memory_gb', {})
    return LogSummary(
        run=log.name,
        path=str(log.path),
        iterations=max(step for values in log.series.values() for step in values),
        starts=log.starts,
        hours=max(hours.values()) if hours else None,
        step_time=step_time,
        data_share=data_time / step_time if step_time and data_time is not None else None,
        images_per_s=_average_rate(log),
        peak_share=_average(log, ('speed/peak_share',)),
        memory_gb=max(memory.values()) if memory else None,
        last={key: log.series[name][max(log.series[name])] if name else None for key, name in names.items()},
        stragglers={
            rank: count / log.intervals for rank, count in log.stragglers.items() if count >= SHARE * log.intervals
        },
    )


def format_summaries(summaries: Sequence[LogSummary]) -> str:
    """Write a table of runs, and below it the ranks that were slow.

    Args:
        summaries: What :func:`analyze_logs` returns.
    """
    keys = list(summaries[0].last)
    head = ['run', 'iterations', 'starts', 'hours', 's/step', 'data', 'images/s', 'of peak', 'GB', *keys]
    rows = [
        [
            one.run,
            f'{one.iterations}',
            f'{one.starts}',
            _write(one.hours, '.2f'),
            _write(one.step_time, '.3f'),
            _write(one.data_share, '.0%'),
            _write(one.images_per_s, '.0f'),
            _write(one.peak_share, '.1%'),
            _write(one.memory_gb, '.1f'),
            *(_write(one.last[key], '.5g') for key in keys),
        ]
        for one in summaries
    ]
    slow = [
        f'{one.run}: {rank} was slow in {share:.0%} of the intervals'
        for one in summaries
        for rank, share in sorted(one.stragglers.items(), key=lambda item: -item[1])
    ]
    return '\n'.join([format_table([head, *rows]), *slow])


def _average(log: RunLog, names: Sequence[str]) -> float | None:
    """Average the first of these values that was logged, each for the iterations since the one before it."""
    values = next((log.series[name] for name in names if log.series.get(name)), None)
    if values is None:
        return None
    weights = _weigh(values)
    return sum(values[step] * weight for step, weight in weights.items()) / sum(weights.values())


def _average_rate(log: RunLog) -> float | None:
    """Average images per second over the time, not over the intervals: all images over all seconds."""
    rates, times = log.series.get('speed/images_per_s'), log.series.get('speed/step_time', {})
    if not rates:
        return None
    seconds = {step: weight * times.get(step, 1.0) for step, weight in _weigh(rates).items()}
    return sum(rates[step] * spent for step, spent in seconds.items()) / sum(seconds.values())


def _weigh(values: dict[int, float]) -> dict[int, int]:
    """Return the iterations that each value stands for."""
    steps = sorted(values)
    return {step: step - before for before, step in zip([0, *steps], steps, strict=False)}


def _write(value: float | None, form: str) -> str:
    return '-' if value is None else f'{value:{form}}'
