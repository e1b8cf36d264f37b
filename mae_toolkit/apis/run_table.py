"""Filter, sort and print lists of trainings."""

from collections.abc import Callable, Sequence
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

from mae_toolkit.apis.run_list import DEAD_AFTER, RunSummary, find_run_folders, summarize_run_folder
from mae_toolkit.apis.run_metrics import RankedRun
from mae_toolkit.apis.run_show import format_age
from mae_toolkit.planning.table import format_table
from mae_toolkit.printing import printable

# How runs are sorted by each column; those of which it is not known come last.
_KEYS: dict[str, Callable[[RunSummary], Any]] = {
    'age': lambda run: run.age,
    'name': lambda run: str(run.path),
    'state': lambda run: run.state,
    'loss': lambda run: float('inf') if run.loss is None else run.loss,
    'speed': lambda run: -(run.images_per_s or 0.0),
    'progress': lambda run: -(run.progress or 0.0),
}
SORTS = tuple(_KEYS)


def list_runs(root: str | Path, dead_after: float = DEAD_AFTER) -> list[RunSummary]:
    """Summarize all trainings in a folder and below it.

    Args:
        root: The folder.
        dead_after: See :func:`~mae_toolkit.apis.run_list.summarize_run_folder`.

    Raises:
        UserError: If there is no such folder.
    """
    return [summarize_run_folder(folder, dead_after) for folder in find_run_folders(root)]


def select_runs(
    runs: Sequence[RunSummary], states: Sequence[str] | None = None, name: str | None = None, sort: str = 'age'
) -> list[RunSummary]:
    """Filter and sort trainings.

    Args:
        runs: The trainings.
        states: Keep those in one of these states; all if None.
        name: Keep those whose folder or config matches this pattern; all if None.
        sort: One of :data:`SORTS`.
    """
    kept = [run for run in runs if states is None or run.state in states]
    if name is not None:
        kept = [run for run in kept if any(fnmatch(text, name) for text in (str(run.path), run.path.name, run.config))]
    return sorted(kept, key=_KEYS[sort])


def format_runs(runs: Sequence[RunSummary], root: str | Path) -> str:
    """Write a table of trainings, and below it what is wrong with their files.

    Args:
        runs: The trainings.
        root: The folder that was searched; paths are shown from there.
    """
    if not runs:
        return f'No such runs in {root}.'
    head = ('run', 'state', 'done', 'iteration', 'loss', 'images/s', 'last sign', 'config')
    rows = [head] + [
        (
            _shorten(run.path, root),
            run.state,
            '' if run.progress is None else f'{run.progress:.0%}',
            f'{run.iteration}' + (f'/{run.max_iters}' if run.max_iters else ''),
            '' if run.loss is None else f'{run.loss:.4f}',
            '' if run.images_per_s is None else f'{run.images_per_s:.0f}',
            f'{format_age(run.age)} ago',
            printable(run.config),
        )
        for run in runs
    ]
    errors = [f'{_shorten(run.path, root)}: {printable(run.error)}' for run in runs if run.error]
    warnings = [f'warning: {warning}' for run in runs for warning in run.warnings]
    return '\n'.join([format_table(rows), *errors, *warnings])


def format_ranking(ranked: Sequence[RankedRun], root: Path, metric: str, less: bool) -> str:
    """Write a table of trainings in the order of a metric.

    Args:
        ranked: What :func:`~mae_toolkit.apis.run_metrics.rank_runs` returns.
        root: The folder that was searched.
        metric: Name of the metric.
        less: Whether less is better.
    """
    head = ('run', f'{"least" if less else "most"} {metric}', 'at iteration', 'at last')
    rows = [(_shorten(run.path, root), f'{run.value:.6g}', f'{run.step}', f'{run.last:.6g}') for run in ranked]
    return format_table([head, *rows])


def _shorten(path: Path, root: str | Path) -> str:
    return printable(path.relative_to(root)) if path != Path(root) else printable(path)
