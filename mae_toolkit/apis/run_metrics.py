"""Find the trainings that are best by a metric, with a cache of what their logs hold."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.registry import suggest
from mae_toolkit.visualization import read_scalars

CACHE = '.runs.json'  # in the folder that is searched; deleting it changes nothing
VERSION = 1


@dataclass(frozen=True)
class MetricRange:
    """What a training logged under a name.

    Attributes:
        least: The least value.
        least_step: Its iteration.
        most: The greatest value.
        most_step: Its iteration.
        last: The last value.
        last_step: Its iteration.
    """

    least: float
    least_step: int
    most: float
    most_step: int
    last: float
    last_step: int


@dataclass(frozen=True)
class RankedRun:
    """A training in the order of a metric.

    Attributes:
        path: Its folder.
        value: Its best value.
        step: The iteration of it.
        last: Its last value.
    """

    path: Path
    value: float
    step: int
    last: float


def rank_runs(root: str | Path, folders: Sequence[Path], metric: str, less: bool) -> list[RankedRun]:
    """Put trainings in the order of their best values of a metric; those without it are left out.

    Args:
        root: The folder that was searched; what the logs hold is cached there, if it can be written to.
        folders: The trainings.
        metric: Name of the metric, such as ``'val/loss_pixel'``.
        less: Whether less is better.

    Raises:
        UserError: If no training has logged it.
    """
    ranges = read_metric_ranges(root, folders)
    names = sorted({name for values in ranges.values() for name in values})
    if metric not in names:
        if not names:
            raise UserError(f'None of the {len(folders)} runs in {root} has logged any values yet.')
        raise UserError(f'No run in {root} has logged {metric!r}{suggest(metric, names)}')
    ranked = []
    for folder, values in ranges.items():
        if metric in values:
            found = values[metric]
            value, step = (found.least, found.least_step) if less else (found.most, found.most_step)
            ranked.append(RankedRun(folder, value, step, found.last))
    return sorted(ranked, key=lambda run: run.value if less else -run.value)


def read_metric_ranges(root: str | Path, folders: Sequence[Path]) -> dict[Path, dict[str, MetricRange]]:
    """Read the range of each metric that trainings have logged, from the cache where the logs have not changed.

    Args:
        root: The folder with the cache.
        folders: The trainings.
    """
    root = Path(root)
    before = _read_cache(root)
    after: dict[str, Any] = {}
    found = {}
    for folder in folders:
        key, signature = str(folder.relative_to(root)), _sign_logs(folder)
        kept = before.get(key)
        values = _parse_ranges(kept.get('metrics')) if kept and kept.get('logs') == signature else None
        if values is None:
            values = _measure_ranges(folder)
        found[folder] = values
        after[key] = {'logs': signature, 'metrics': {name: asdict(value) for name, value in values.items()}}
    if after != before:
        _write_cache(root, after)
    return found


def _measure_ranges(folder: Path) -> dict[str, MetricRange]:
    ranges = {}
    for name, series in read_scalars(folder).items():
        values = {step: value for step, value in series.items() if math.isfinite(value)}
        if values:
            least, most, last = min(values, key=values.__getitem__), max(values, key=values.__getitem__), max(values)
            ranges[name] = MetricRange(values[least], least, values[most], most, values[last], last)
    return ranges


def _sign_logs(folder: Path) -> list[list[Any]]:
    """Return what changes when the logs of a training do."""
    stats = [(path.parent.parent.name, path.stat()) for path in sorted(folder.glob('*/vis_data/scalars.json'))]
    return [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats]


def _read_cache(root: Path) -> dict[str, Any]:
    try:
        held = json.loads((root / CACHE).read_text())
        runs = held['runs'] if held['version'] == VERSION else {}
        return runs if all(isinstance(run, dict) for run in runs.values()) else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _parse_ranges(metrics: Any) -> dict[str, MetricRange] | None:
    try:
        return {name: MetricRange(**value) for name, value in metrics.items()}
    except (TypeError, AttributeError):
        return None


def _write_cache(root: Path, runs: dict[str, Any]) -> None:
    try:
        atomic_write(root / CACHE, json.dumps({'version': VERSION, 'runs': runs}))
    except OSError:  # a folder of others; the cache only saves time
        return
