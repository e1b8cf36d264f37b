"""Do one run or pretraining, from its folder: ``python -m mae_toolkit.transfer.worker FOLDER [PARENT]``.

With the number of its parent process, it ends when that process has ended; a Slurm job has no such parent.
"""

import json
import os
import shutil
import sys
import time
import traceback
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.checkpoints.convert import convert_checkpoint
from mae_toolkit.checkpoints.files import list_checkpoints
from mae_toolkit.checkpoints.publishing import remove_folder
from mae_toolkit.engine.locks import lock_folder
from mae_toolkit.engine.parent import end_with_parent
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write, remove_partial
from mae_toolkit.registry import suggest
from mae_toolkit.transfer.hashes import FileHashes, hash_file
from mae_toolkit.transfer.job import CONFIG, FAILURE, JOB, RESULT, WEIGHTS, read_job, read_result, tail
from mae_toolkit.transfer.records import read_record
from mae_toolkit.transfer.run_records import (
    Failure,
    PretrainingRecord,
    PretrainingResult,
    RunRecord,
    RunResult,
    Weights,
)

BUSY = 75  # exit status: another process works in the folder; "try again later" of sysexits.h
BEGINNING = 'beginning.json'  # in the folder: the weights with which its training began
LAST_LINES = 15  # of what a failed run said


def work(folder: Path) -> int:
    """Do what a folder asks for, unless that is done, and write its result, or why there is none.

    Returns:
        The exit status of the process.
    """
    with lock_folder(folder) as free:
        if not free:
            return BUSY
        (folder / FAILURE).unlink(missing_ok=True)
        remove_partial(folder)
        try:
            _work(folder, _job_of(folder))
        except Exception as error:  # whatever it is, the other runs go on
            said = [f'error: {error}'] if isinstance(error, UserError) else traceback.format_exc().splitlines()
            print('\n'.join(said), file=sys.stderr, flush=True)
            record_failure(folder, said[-LAST_LINES:])
            return 2 if isinstance(error, UserError) else 1
    return 0


def record_failure(folder: Path, lines: Iterable[str]) -> None:
    """Note that a run failed, with the last lines that were heard of it."""
    Failure(list(lines), now()).write(folder / FAILURE)


def record_death(folder: Path, log: Path, status: int) -> None:
    """Note that a process ended with a status before it could say why, if so."""
    if status in (0, BUSY) or (folder / FAILURE).is_file() or read_result(folder) is not None:
        return
    how = f'it was killed by signal {-status}' if status < 0 else f'it ended with status {status}'
    record_failure(folder, [*tail(log, LAST_LINES), f'The process said no more: {how}.'])


def now() -> str:
    """Return the time in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec='seconds')


def _job_of(folder: Path) -> RunRecord | PretrainingRecord:
    job = read_job(folder)
    if job is None:
        raise UserError(f'{folder} has no {JOB}: it is no folder of a run.')
    return job


def _work(folder: Path, job: RunRecord | PretrainingRecord) -> None:
    weights = _check_weights(job)
    if _is_done(folder, job, weights):
        return
    _begin(folder, weights)
    # what a process that only prepares need not import
    from mae_toolkit.transfer.machine import describe_device, find_versions

    started, begin = now(), time.monotonic()
    resumed = bool(list_checkpoints(folder / 'train'))
    found: dict[str, Any] = vars(job) | {'resumed': resumed, 'started': started}
    if isinstance(job, RunRecord) and job.frozen:
        found |= {'weights': weights, **_probe(folder, job, weights)}
    else:
        found |= _train(folder, job, weights)
    found |= {'seconds': round(time.monotonic() - begin, 2), 'finished': now(), 'device': describe_device()}
    found |= {'versions': find_versions(), 'config_sha256': hash_file(folder / CONFIG)}
    (PretrainingResult if isinstance(job, PretrainingRecord) else RunResult)(**found).write(folder / RESULT)
    if isinstance(job, RunRecord) and not job.keep_checkpoints:
        remove_weights(folder)


def _probe(folder: Path, job: RunRecord, weights: Weights | None) -> dict[str, Any]:
    """Evaluate the frozen encoder, and return what its result has of that."""
    from mae_toolkit.transfer.evaluations import run_evaluation

    found = run_evaluation(folder / CONFIG, job, None if weights is None else weights.path)
    _check_metrics(found['metrics'], job.metrics_needed)
    return found


def _train(folder: Path, job: RunRecord | PretrainingRecord, weights: Weights | None) -> dict[str, Any]:
    """Train and test, and return what the result has of that."""
    from mae_toolkit.apis.training import train
    from mae_toolkit.checkpoints.files import newest_checkpoint
    from mae_toolkit.config.load import load_config

    sys.path.append(str(Path(job.config).resolve().parent))  # modules beside the config that it imports
    cfg, resumed = load_config(folder / CONFIG), bool(list_checkpoints(folder / 'train'))
    train(cfg, str(folder / 'train'), resume='auto' if resumed else None)
    last = newest_checkpoint(folder / 'train')
    if last is None:
        raise UserError(f'The training in {folder} saved no checkpoint: its config needs default_hooks.checkpoint.')
    if isinstance(job, PretrainingRecord):
        _link(last, folder / WEIGHTS)
        return {'weights': Weights(str(folder / WEIGHTS), hash_file(folder / WEIGHTS))}
    return {'weights': weights, 'metrics': _evaluate(cfg, last, folder, job.metrics_needed)}


def _is_done(folder: Path, job: RunRecord | PretrainingRecord, weights: Weights | None) -> bool:
    found = read_result(folder)
    if isinstance(job, PretrainingRecord):
        return found is not None and (folder / WEIGHTS).is_file()
    return found is not None and found.weights == weights


def _evaluate(cfg: Config, checkpoint: Path, folder: Path, needed: Iterable[str]) -> dict[str, float]:
    """Measure the metrics on the test split.

    Raises:
        UserError: If one of those that are needed is not among them.
    """
    from mae_toolkit.apis.training import test

    numbers = test(cfg, str(checkpoint), str(folder / 'test'))
    _check_metrics(numbers, needed)
    return {name: float(value) for name, value in numbers.items()}


def _check_metrics(numbers: Mapping[str, float], needed: Iterable[str]) -> None:
    """Refuse a test that lacks a metric that the table shows."""
    lacking = [name for name in needed if name not in numbers]
    if lacking:
        raise UserError(f'The test gives no metric {lacking[0]!r}{suggest(lacking[0], sorted(numbers))}')


def _check_weights(job: RunRecord | PretrainingRecord) -> Weights | None:
    """Check the weights with which the encoder of a run begins, and return them; None from scratch.

    Raises:
        UserError: If they are not there, or not those that were meant.
    """
    planned = job.weights
    if planned is None or isinstance(job, PretrainingRecord):
        return None
    found = FileHashes().weights(planned.path)
    if found is None:
        raise UserError(f'There is no checkpoint {planned.path}, from which the encoder was to begin.')
    if planned.sha256 not in (None, found):
        raise UserError(f'{planned.path} is another file than when this run was planned: plan again.')
    return Weights(planned.path, found)


def _begin(folder: Path, weights: Weights | None) -> None:
    """Go on only with a training that began with these weights; another one is thrown away."""
    if (folder / BEGINNING).is_file() and read_record(folder / BEGINNING, Weights.from_dict) != weights:
        for path in (folder / 'train', folder / 'test'):
            shutil.rmtree(path, ignore_errors=True)
    (folder / RESULT).unlink(missing_ok=True)
    atomic_write(folder / BEGINNING, json.dumps(weights and weights.to_dict()) + '\n')


def remove_weights(folder: Path) -> None:
    """Delete the checkpoints of a run that has its result."""
    for path in [*(folder / 'train').glob('*.pth'), *list_checkpoints(folder / 'train')]:
        if path.is_dir():
            remove_folder(path)
        else:
            path.unlink(missing_ok=True)


def _link(path: Path, name: Path) -> None:
    """Give a checkpoint a second name, that of the last one; a sharded one becomes one file."""
    if path.is_dir():
        convert_checkpoint(path, name)
        return
    new = name.with_name(f'.{name.name}.{os.getpid()}.partial')
    new.unlink(missing_ok=True)
    try:
        os.link(path, new)
    except OSError:  # a file system without links
        shutil.copyfile(path, new)
    os.replace(new, name)


if __name__ == '__main__':
    if len(sys.argv) > 2:
        end_with_parent(int(sys.argv[2]))
    sys.exit(work(Path(sys.argv[1])))
