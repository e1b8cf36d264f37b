"""Show everything that is known of a training."""

from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

from mae_toolkit.apis.run_list import RunSummary, find_run_folders, summarize_run_folder
from mae_toolkit.checkpoints.files import newest_checkpoint
from mae_toolkit.config import load_config
from mae_toolkit.config.difference import Difference, compare_settings
from mae_toolkit.config.text import read_config_text, to_plain
from mae_toolkit.errors import UserError
from mae_toolkit.planning.table import format_table
from mae_toolkit.printing import shorten
from mae_toolkit.run_files import DamagedRunFile, RunFile, read_run
from mae_toolkit.visualization import read_scalars


def format_age(seconds: float) -> str:
    """Write a time that has passed in its largest unit: ``'40 s'``, ``'12 min'``, ``'5.2 h'``, ``'3.1 d'``."""
    for size, unit in ((86400, 'd'), (3600, 'h')):
        if seconds >= size:
            return f'{seconds / size:.1f} {unit}'
    return f'{seconds / 60:.0f} min' if seconds >= 60 else f'{seconds:.0f} s'


def show_run(folder: str | Path, against: str | Path | None = None) -> str:
    """Describe a training: its state, its starts, its last values, and how its config differs from another.

    Args:
        folder: Its folder.
        against: The folder of another training, or a config; the config that it was started with if None.

    Raises:
        UserError: If it is not the folder of a training, or there is nothing to compare it with.
    """
    folder = Path(folder)
    summary = find_summary(folder)
    parts = [_describe(summary)]
    try:
        run = read_run(folder)
    except DamagedRunFile:
        run = None
    if run is not None and run.starts:
        parts.append(_describe_starts(run))
    values = {name: series for name, series in read_scalars(folder).items() if series and name != 'iter'}
    if values:
        rows = [(name, f'{series[max(series)]:.6g}', f'iteration {max(series)}') for name, series in values.items()]
        parts.append('last values\n' + format_table(rows))
    parts.append(_describe_differences(folder, run, against))
    return '\n\n'.join(parts)


def find_summary(folder: Path) -> RunSummary:
    """Summarize the training in a folder.

    Raises:
        UserError: If it is not the folder of a training.
    """
    if not folder.is_dir():
        raise UserError(f'There is no run {folder}: give the work directory of a training.')
    if folder not in find_run_folders(folder):
        raise UserError(f'{folder} is not the work directory of a training: it has neither run.json nor logs.')
    return summarize_run_folder(folder)


def _describe(run: RunSummary) -> str:
    done = f'{run.iteration}' + (f' of {run.max_iters} ({run.progress:.0%})' if run.progress is not None else '')
    checkpoint = newest_checkpoint(run.path)
    rows = [
        ('run', str(run.path)),
        ('state', f'{run.state}, last sign {format_age(run.age)} ago'),
        ('config', f'{run.config} {run.config_hash}'.strip()),
        ('iterations', done),
        ('loss', '' if run.loss is None else f'{run.loss:.4f}'),
        ('images/s', '' if run.images_per_s is None else f'{run.images_per_s:.0f}'),
        ('error', run.error or ''),
        ('checkpoint', '' if checkpoint is None else checkpoint.name),
        *(('warning', warning) for warning in run.warnings),
    ]
    return format_table([row for row in rows if row[1]])


def _describe_starts(run: RunFile) -> str:
    rows = []
    for start in run.starts:
        when = datetime.fromtimestamp(start.time).strftime('%Y-%m-%d %H:%M:%S')
        others = f' and {start.hosts - 1} more' if start.hosts > 1 else ''
        where = f'{start.ranks} x {start.device} on {start.host}{others}'
        job = f'job {start.job}' if start.job else ''
        end = 'killed' if start.status == 'running' and start is not run.starts[-1] else start.status
        rows.append((when, f'from iteration {start.iteration}', end, where, job))
    last = run.starts[-1]
    versions = ', '.join(f'{name} {version}' for name, version in last.versions.items())
    more = [('command', ' '.join(map(str, last.command))), ('versions', versions), ('commit', last.commit or '')]
    return f'starts\n{format_table(rows)}\n\nlast start\n{format_table([row for row in more if row[1]])}'


def _describe_differences(folder: Path, run: RunFile | None, against: str | Path | None) -> str:
    """List in what the config of a training differs from another one."""
    own = read_run_config(folder)
    if own is None:
        return 'config: the run left none that can be read'
    if against is None and (run is None or not Path(run.config).is_file()):
        return 'config: the file that it was started with is not there any more; compare with --against'
    other = Path(against) if against is not None else Path(run.config if run else '')
    given = read_run_config(other) if other.is_dir() else to_plain(load_config(other))
    if given is None:
        raise UserError(f'{other} holds no config that can be read: give the folder of another run, or a config.')
    found = compare_run_configs(given, own)
    if not found:
        return f'config: as {other}'
    rows = [(one.key, _write(one.saved), _write(one.given)) for one in found]
    return f'config, different from {other}\n' + format_table([('setting', 'there', 'here'), *rows])


def compare_run_configs(first: Mapping[str, Any], second: Mapping[str, Any]) -> list[Difference]:
    """Compare all settings of two configs but those that only say where they run.

    Args:
        first: A config, as plain values.
        second: The other one.
    """
    return compare_settings(dict(first), dict(second), ignored=('work_dir', 'launcher', 'resume'))


def read_run_config(folder: Path) -> dict[str, Any] | None:
    """Read the config that the last start of a training wrote into its folder, as plain values; None without one."""
    paths = [*folder.glob('*.py'), *folder.glob('*/*.py')]
    for path in sorted(paths, key=lambda path: path.stat().st_mtime, reverse=True):
        values = read_config_text(path.read_text())
        if values is not None and 'model' in values:
            return values
    return None


def _write(value: Any, most: int = 60) -> str:
    return shorten(repr(value), most)
