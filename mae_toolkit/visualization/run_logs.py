"""Read what runs logged, so that they can be compared."""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest
from mae_toolkit.run_files import DamagedRunFile, read_run
from mae_toolkit.visualization.curves import Series, read_scalars

AXES = ('iterations', 'epochs', 'hours')


@dataclass(frozen=True)
class RunLog:
    """What a run logged over all its starts.

    Attributes:
        name: Its name in tables and curves.
        path: Its folder.
        series: Values by iteration by name.
        stragglers: Intervals in which each rank was slow, by ``'rank R on HOST'``, of all that were measured.
        intervals: Number of intervals in which the ranks were measured.
        iterations_per_epoch: Iterations of an epoch; None if unknown.
        starts: How often the run was started, as far as is known.
    """

    name: str
    path: Path
    series: Series
    stragglers: dict[str, int] = field(default_factory=dict)
    intervals: int = 0
    iterations_per_epoch: float | None = None
    starts: int = 1

    def find_key(self, key: str) -> str | None:
        """Return the name under which a key was logged: the key itself, that of training, or the only one it ends.

        Args:
            key: Such as ``'loss'``, for ``'train/loss'``.
        """
        names = [name for name, values in self.series.items() if values]
        for name in (key, f'train/{key}'):
            if name in names:
                return name
        ending = [name for name in names if name.endswith(f'/{key}')]
        return ending[0] if len(ending) == 1 else None

    def compute_hours(self) -> dict[int, float]:
        """Return the hours of training until each iteration that has a step time; gaps between starts do not count."""
        times = self.series.get('speed/step_time') or self.series.get('train/time') or self.series.get('time') or {}
        hours, done, total = {}, 0, 0.0
        for step in sorted(times):
            total += times[step] * (step - done) / 3600
            hours[step], done = total, step
        return hours

    def convert_steps(self, steps: Sequence[int], axis: str) -> list[float]:
        """Convert iterations to the values of an axis.

        Args:
            steps: The iterations.
            axis: One of :data:`AXES`.

        Raises:
            UserError: If the run did not log what it takes.
        """
        if axis == 'iterations':
            return [float(step) for step in steps]
        if axis == 'epochs':
            if not self.iterations_per_epoch:
                raise UserError(f'{self.path} did not log its epochs: choose --x iterations or hours.')
            return [step / self.iterations_per_epoch for step in steps]
        hours = self.compute_hours()
        if not hours:
            raise UserError(f'{self.path} did not log the time of its steps: choose --x iterations.')
        return [_interpolate(step, hours) for step in steps]


def read_run_log(folder: str | Path, name: str | None = None) -> RunLog:
    """Read what a run logged.

    Args:
        folder: Its folder.
        name: Its name; that of the folder if None.

    Raises:
        UserError: If there is no such folder, or nothing was logged there.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise UserError(f'There is no run {folder}: give the work directory of a training.')
    series = read_scalars(folder)
    if not any(series.values()):
        raise UserError(f'{folder} holds no logged values: it is not a work directory, or the run has just begun.')
    try:
        run = read_run(folder)
    except DamagedRunFile:
        run = None
    length = run.iterations_per_epoch if run is not None else None
    stragglers, intervals = _read_stragglers(folder)
    return RunLog(
        name=name or folder.name,
        path=folder,
        series=series,
        stragglers=stragglers,
        intervals=intervals,
        iterations_per_epoch=length or _guess_epoch_length(series),
        starts=max(len(run.starts) if run is not None else 0, len(list(folder.glob('*/vis_data/scalars.json')))),
    )


def read_run_logs(folders: Sequence[str | Path]) -> list[RunLog]:
    """Read what several runs logged; runs of one name get as much of their paths as tells them apart.

    Args:
        folders: Their folders.

    Raises:
        UserError: If one of them is no run, or is given twice.
    """
    paths = [Path(folder) for folder in folders]
    resolved = [path.resolve() for path in paths]
    for i, path in enumerate(resolved):
        if path in resolved[:i]:
            raise UserError(f'{paths[i]} is given twice: give each run once.')
    depth = 1
    while len({path.parts[-depth:] for path in resolved}) < len(resolved):
        depth += 1
    return [read_run_log(path, '/'.join(whole.parts[-depth:])) for path, whole in zip(paths, resolved, strict=True)]


def find_keys(logs: Sequence[RunLog], key: str) -> dict[str, str]:
    """Find under which name each run logged a key; runs without it are left out.

    Args:
        logs: The runs.
        key: See :meth:`RunLog.find_key`.

    Raises:
        UserError: If no run has logged it.
    """
    found = {log.name: name for log in logs if (name := log.find_key(key)) is not None}
    if not found:
        names = sorted({name for log in logs for name, values in log.series.items() if values})
        ending = [name for name in names if name.endswith(f'/{key}')]
        if ending:
            raise UserError(f'{key!r} stands for several values: give one of {", ".join(ending)}.')
        known = names if '/' in key else sorted({name.rsplit('/', 1)[-1] for name in names})
        raise UserError(f'No run has logged {key!r}{suggest(key, known)}')
    return found


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Average values exponentially, without the bias of the first one, as TensorBoard does.

    Args:
        values: The values; those that are not finite stay, and are left out of the averages.
        weight: Weight of what came before, from 0 (none) to below 1.
    """
    total = norm = 0.0
    smoothed = []
    for value in values:
        if not math.isfinite(value):
            smoothed.append(value)
            continue
        total, norm = total * weight + value * (1 - weight), norm * weight + 1 - weight
        smoothed.append(total / norm)
    return smoothed


def _interpolate(step: int, hours: dict[int, float]) -> float:
    """Return the hours at an iteration between, before or behind those that are known."""
    points = [(0, 0.0), *sorted(hours.items())]
    for (before, low), (after, high) in pairwise(points):
        if step <= after:
            return low + (high - low) * (step - before) / (after - before)
    return points[-1][1]


def _guess_epoch_length(series: Series) -> float | None:
    """Guess the iterations of an epoch from the rows, which name the epoch that an iteration belongs to."""
    epochs = series.get('epoch', {})
    return max((step / epoch for step, epoch in epochs.items() if epoch > 0), default=None)


def _read_stragglers(folder: Path) -> tuple[dict[str, int], int]:
    """Count the intervals in which each rank was slow, and all that were measured."""
    found: dict[str, int] = {}
    intervals = 0
    for path in sorted(folder.glob('*/vis_data/ranks.jsonl')):
        for line in path.read_text().splitlines():
            row = _parse(line)
            intervals += bool(row)
            for rank in row.get('stragglers', []):
                name = f'rank {rank} on {row["host"][rank]}'
                found[name] = found.get(name, 0) + 1
    return found, intervals


def _parse(line: str) -> dict[str, Any]:
    """Parse a line; nothing of half a line, which a killed run may leave."""
    try:
        row = json.loads(line)
    except json.JSONDecodeError:
        return {}
    return row if isinstance(row, dict) and isinstance(row.get('host'), list) else {}
