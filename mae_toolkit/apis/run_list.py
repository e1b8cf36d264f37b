"""List the trainings below a folder, with what became of them."""

import os
import re
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil

from mae_toolkit.engine.time_limits import HANGS
from mae_toolkit.errors import UserError
from mae_toolkit.run_files import HEARTBEAT, RUN, DamagedRunFile, Heartbeat, RunFile, read_heartbeat, read_run
from mae_toolkit.visualization import read_scalars

STATES = ('running', 'finished', 'failed', 'dead', 'preempted', 'stopped', 'unknown')
DEAD_AFTER = 600.0  # seconds without a heartbeat
TIMESTAMP = re.compile(r'\d{8}_\d{6}')  # names of the folders in which MMEngine puts logs


@dataclass
class RunSummary:
    """What is known of a training from the files in its folder.

    Attributes:
        path: The folder.
        state: One of :data:`STATES`. ``'dead'``: it did not end, and there is no heartbeat any more; ``'unknown'``: it
            left no ``run.json``.
        config: Name of its config.
        config_hash: Equal for equal trainings.
        iteration: Iterations that are done.
        max_iters: Iterations of the whole training; None if unknown.
        epoch: Epochs that are done; None if unknown.
        loss: Its last loss.
        images_per_s: Images per second in its last interval; None if unknown.
        age: Seconds since it last gave a sign of life.
        starts: How often it was started; 0 if unknown.
        host: Where it last ran.
        error: First line of the error that ended it, or of the report on the rank that was lost or hung.
        warnings: What is wrong with its files.
    """

    path: Path
    state: str
    config: str
    config_hash: str
    iteration: int
    max_iters: int | None
    epoch: int | None
    loss: float | None
    images_per_s: float | None
    age: float
    starts: int
    host: str
    error: str | None
    warnings: tuple[str, ...] = ()

    @property
    def progress(self) -> float | None:
        """The share of the training that is done; None if unknown."""
        return self.iteration / self.max_iters if self.max_iters else None


def find_run_folders(root: str | Path) -> list[Path]:
    """Find the folders of trainings in a folder and below it: those with a ``run.json``, or with logs of MMEngine.

    Args:
        root: The folder; links to other folders are not followed.

    Raises:
        UserError: If there is no such folder.
    """
    if not Path(root).is_dir():
        raise UserError(f'There is no folder {root}: give the folder with the work directories of your runs.')
    return sorted(_walk(Path(root)))


def _walk(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        logs = [name for name in folders if TIMESTAMP.fullmatch(name)]
        if RUN in files or any((Path(folder) / name / 'vis_data').is_dir() for name in logs):
            yield Path(folder)
        folders[:] = [name for name in folders if name not in logs and not name.startswith('.')]


def summarize_run_folder(folder: str | Path, dead_after: float = DEAD_AFTER) -> RunSummary:
    """Find out what is known of the training in a folder.

    Args:
        folder: Its folder.
        dead_after: Seconds without a heartbeat after which a training that did not end is ``'dead'``. On this host it
            is so at once when there is no such process.
    """
    folder = Path(folder)
    warnings: list[str] = []
    run, beat = None, None
    try:
        run = read_run(folder)
    except DamagedRunFile as error:
        warnings.append(str(error))
    try:
        beat = read_heartbeat(folder)
    except DamagedRunFile as error:
        warnings.append(str(error))
    if run is None or not run.starts:
        return _summarize_logs(folder, warnings)
    start = run.starts[-1]
    last_sign = max(start.time, beat.time if beat else 0.0, start.ended or 0.0)
    age = max(0.0, time.time() - last_sign)
    state, cause = _judge(run, beat, age, dead_after), start.error
    if state == 'dead' and (report := _read_report(folder, start.time)) is not None:
        state, cause = 'failed', report
    return RunSummary(
        path=folder,
        state=state,
        config=Path(run.config).stem,
        config_hash=run.config_hash,
        iteration=max(beat.iteration if beat else 0, start.iteration),
        max_iters=run.max_iters,
        epoch=beat.epoch if beat else None,
        loss=beat.loss if beat else None,
        images_per_s=beat.images_per_s if beat else None,
        age=age,
        starts=len(run.starts),
        host=start.host,
        error=cause,
        warnings=tuple(warnings),
    )


def _judge(run: RunFile, beat: Heartbeat | None, age: float, dead_after: float) -> str:
    start = run.starts[-1]
    if start.status != 'running':
        return start.status if start.status in STATES else 'unknown'
    is_here = start.host == socket.gethostname() and (beat is None or beat.host in ('', start.host))
    if age > dead_after or (is_here and not psutil.pid_exists(start.pid)):
        return 'dead'
    return 'running'


def _read_report(folder: Path, since: float) -> str | None:
    """Read what the watch over the ranks says of the one that was lost or hung after a time; None without a report."""
    reports = [path for path in folder.glob(f'{HANGS}/*/report.txt') if path.stat().st_mtime >= since]
    newest = max(reports, key=lambda path: path.stat().st_mtime, default=None)
    return newest.read_text(errors='replace').partition('\n')[0] if newest is not None else None


def _summarize_logs(folder: Path, warnings: list[str]) -> RunSummary:
    """Find out what is known of a training without ``run.json`` from its logs and its config."""
    series = read_scalars(folder)
    losses = series.get('train/loss') or series.get('loss') or {}
    files = [path for path in (*folder.glob('*'), *folder.glob('*/vis_data/scalars.json')) if path.is_file()]
    files = [path for path in files if path.name not in (RUN, HEARTBEAT)]
    changed = max((path.stat().st_mtime for path in files), default=folder.stat().st_mtime)
    configs = sorted(folder.glob('*.py'), key=lambda path: path.stat().st_mtime)
    speeds = series.get('speed/images_per_s', {})
    return RunSummary(
        path=folder,
        state='unknown',
        config=configs[-1].stem if configs else '',
        config_hash='',
        iteration=max((step for values in series.values() for step in values), default=0),
        max_iters=None,
        epoch=None,
        loss=list(losses.values())[-1] if losses else None,
        images_per_s=list(speeds.values())[-1] if speeds else None,
        age=max(0.0, time.time() - changed),
        starts=0,
        host='',
        error=None,
        warnings=tuple(warnings),
    )
