"""What a training notes about itself in its folder: ``run.json``, and ``heartbeat.json`` while it runs."""

import json
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

RUN, HEARTBEAT = 'run.json', 'heartbeat.json'
STATUSES = ('running', 'finished', 'stopped', 'preempted', 'failed')


@dataclass
class RunStart:
    """A start of a training: the first one, or one that resumed it.

    Attributes:
        time: Seconds since 1970.
        command: The program and its arguments.
        host: Host of the first process.
        pid: Its process id.
        iteration: Iterations that were done before.
        ranks: Number of processes.
        hosts: Number of hosts.
        device: Name of the device, such as ``'NVIDIA H200'`` or ``'cpu'``.
        job: Id of the Slurm job, if it is one.
        commit: Git commit of the toolkit, if it runs from a checkout.
        versions: Versions of Python and the main libraries by name.
        status: One of :data:`STATUSES`; a training that was killed stays ``'running'``.
        ended: Seconds since 1970; None while it runs, or if it was killed.
        error: First line of the error that ended it.
        log: Name of the folder with its logs.
    """

    time: float
    command: list[str]
    host: str
    pid: int
    iteration: int = 0
    ranks: int = 1
    hosts: int = 1
    device: str = 'cpu'
    job: str | None = None
    commit: str | None = None
    versions: dict[str, str] = field(default_factory=dict)
    status: str = 'running'
    ended: float | None = None
    error: str | None = None
    log: str = ''


@dataclass
class RunFile:
    """What ``run.json`` holds.

    Attributes:
        config: Path of the config, as it was given.
        config_hash: Hash of all its settings but those of the place, such as ``work_dir``: equal for equal trainings.
        max_iters: Iterations of the whole training.
        max_epochs: Its epochs; None where it counts iterations only.
        iterations_per_epoch: Iterations of an epoch.
        starts: All its starts, the latest last.
    """

    config: str
    config_hash: str
    max_iters: int
    max_epochs: int | None = None
    iterations_per_epoch: int | None = None
    starts: list[RunStart] = field(default_factory=list)


@dataclass
class Heartbeat:
    """What ``heartbeat.json`` holds: where a training was when it last wrote it.

    Attributes:
        time: Seconds since 1970.
        iteration: Iterations that are done.
        epoch: Epochs that are done.
        loss: The last loss of the first process.
        images_per_s: Images per second of all processes in the last interval that was measured.
        host: Host of the first process.
        pid: Its process id.
    """

    time: float
    iteration: int
    epoch: int
    loss: float | None = None
    images_per_s: float | None = None
    host: str = ''
    pid: int = 0


class DamagedRunFile(UserError):
    """A ``run.json`` or ``heartbeat.json`` that does not hold what a training writes."""


def write_run(folder: str | Path, run: RunFile) -> None:
    """Write ``run.json`` of a training into its folder, whole or not at all."""
    atomic_write(Path(folder) / RUN, json.dumps(asdict(run), indent=1) + '\n')


def write_heartbeat(folder: str | Path, beat: Heartbeat) -> None:
    """Write ``heartbeat.json`` of a training into its folder, whole or not at all."""
    atomic_write(Path(folder) / HEARTBEAT, json.dumps(asdict(beat)) + '\n')


def read_run(folder: str | Path) -> RunFile | None:
    """Read ``run.json`` of a folder; None if there is none.

    Raises:
        DamagedRunFile: If it does not hold what :func:`write_run` writes.
    """
    values = _read(Path(folder) / RUN)
    if values is None:
        return None
    starts = values.pop('starts', [])
    if not isinstance(starts, list):
        raise _damaged(Path(folder) / RUN)
    run = _make(RunFile, values, Path(folder) / RUN)
    run.starts = [_make(RunStart, start, Path(folder) / RUN) for start in starts]
    return run


def read_heartbeat(folder: str | Path) -> Heartbeat | None:
    """Read ``heartbeat.json`` of a folder; None if there is none.

    Raises:
        DamagedRunFile: If it does not hold what :func:`write_heartbeat` writes.
    """
    values = _read(Path(folder) / HEARTBEAT)
    return None if values is None else _make(Heartbeat, values, Path(folder) / HEARTBEAT)


def note_end(folder: str | Path, time: float, status: str, error: str | None = None) -> None:
    """Note in ``run.json`` how a training has ended; nothing if that is noted already, or there is no such file.

    Args:
        folder: The folder of the training.
        time: Seconds since 1970.
        status: One of :data:`STATUSES`.
        error: First line of the error that ended it.
    """
    assert status in STATUSES, status
    run = read_run(folder)
    if run is None or not run.starts or run.starts[-1].status != 'running':
        return
    start = run.starts[-1]
    start.status, start.ended, start.error = status, time, error
    write_run(folder, run)


def read_git_commit(folder: str | Path) -> str | None:
    """Read the commit that is checked out in the git repository around a folder, without starting git.

    Args:
        folder: A folder within the repository.

    Returns:
        The hash; None outside of a repository, or where it is stored in another way.
    """
    for parent in (Path(folder).resolve(), *Path(folder).resolve().parents):
        if (parent / '.git').exists():
            try:
                return _read_head(parent / '.git')
            except (OSError, UnicodeDecodeError):
                return None
    return None


def _read_head(git: Path) -> str | None:
    """Follow ``HEAD`` of a ``.git``, which is a file in a second working tree, to a hash."""
    if git.is_file():
        git = git.parent / git.read_text().removeprefix('gitdir:').strip()
    head = (git / 'HEAD').read_text().strip()
    if not head.startswith('ref:'):
        return head or None
    common = git / 'commondir'
    shared = git / common.read_text().strip() if common.is_file() else git
    name = head.removeprefix('ref:').strip()
    if (shared / name).is_file():
        return (shared / name).read_text().strip()
    packed = shared / 'packed-refs'
    lines = [line.split() for line in packed.read_text().splitlines()] if packed.is_file() else []
    return next((words[0] for words in lines if len(words) == 2 and words[1] == name), None)


def _read(path: Path) -> dict[str, Any] | None:
    try:
        values = json.loads(path.read_text())
    except FileNotFoundError:
        return None
    except (OSError, ValueError):
        raise _damaged(path) from None
    if not isinstance(values, dict):
        raise _damaged(path)
    return values


def _make(kind: type, values: Any, path: Path) -> Any:
    """Build a record from what a file holds; keys of a later version are left out."""
    known = {one.name for one in fields(kind)}
    try:
        made = kind(**{key: value for key, value in values.items() if key in known})
    except (TypeError, AttributeError):
        raise _damaged(path) from None
    numbers = [getattr(made, name) for name in ('time', 'iteration', 'max_iters') if name in known]
    if not all(isinstance(number, int | float) for number in numbers):
        raise _damaged(path)
    return made


def _damaged(path: Path) -> DamagedRunFile:
    return DamagedRunFile(f'{path} is not what a training writes: remove it; the next start writes it anew.')
