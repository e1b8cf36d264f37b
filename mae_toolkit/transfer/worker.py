"""One run or pretraining, from its folder: ``python -m mae_toolkit.transfer.worker FOLDER [PARENT]``.

With the number of its parent process, it ends when that process has ended; a Slurm job has no such parent.
"""

import json
import os
import shutil
import sys
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from mae_toolkit.engine.locks import lock_folder
from mae_toolkit.engine.parent import end_with_parent
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write, remove_partial
from mae_toolkit.registry import suggest
from mae_toolkit.transfer.hashes import Files
from mae_toolkit.transfer.job import CONFIG, FAILURE, JOB, RESULT, WEIGHTS, read, read_result, tail

BUSY = 75  # exit status: another process works in the folder; "try again later" of sysexits.h
BEGINNING = 'beginning.json'  # in the folder: the weights with which its training began


def work(folder):
    """Do what a folder asks for, unless that is done, and write its result, or why there is none.

    Returns:
        int: Exit status.
    """
    folder = Path(folder)
    with lock_folder(folder) as free:
        if not free:
            return BUSY
        (folder / FAILURE).unlink(missing_ok=True)
        remove_partial(folder)
        try:
            _work(folder, read(folder / JOB))
        except Exception as error:  # of whatever kind: the others go on
            told = [f'error: {error}'] if isinstance(error, UserError) else traceback.format_exc().splitlines()
            print('\n'.join(told), file=sys.stderr, flush=True)
            record_failure(folder, told[-15:])
            return 2 if isinstance(error, UserError) else 1
    return 0


def record_failure(folder, lines):
    """Note that a run failed, with the last that was heard of it."""
    told = {'status': 'failed', 'time': now(), 'last_lines': list(lines)}
    atomic_write(Path(folder) / FAILURE, json.dumps(told, indent=2) + '\n')


def record_death(folder, log, status):
    """Note that a process ended with a status before it could say why, if so."""
    if status not in (0, BUSY) and read(Path(folder) / FAILURE) is None and read_result(Path(folder) / RESULT) is None:
        how = f'it was killed by signal {-status}' if status < 0 else f'it ended with status {status}'
        record_failure(folder, [*tail(log), f'The process said no more: {how}.'])


def now():
    """The time, of Greenwich."""
    return datetime.now(UTC).isoformat(timespec='seconds')


def _work(folder, job):
    weights = _weights(job)
    if _is_done(folder, job, weights):
        return
    _begin(folder, weights)
    # what a process that only prepares need not import
    from mae_toolkit.apis.training import train
    from mae_toolkit.checkpoints.files import newest_checkpoint
    from mae_toolkit.config.load import load_config

    sys.path.append(str(Path(job['config']).resolve().parent))  # modules beside the config that it imports
    cfg, started, begin = load_config(folder / CONFIG), now(), time.monotonic()
    resumed = any((folder / 'train').glob('*.pth'))
    train(cfg, str(folder / 'train'), resume='auto' if resumed else None)
    last = newest_checkpoint(folder / 'train')
    if last is None:
        raise UserError(f'The training in {folder} saved no checkpoint: its config needs default_hooks.checkpoint.')
    if job['kind'] == 'pretraining':
        _link(last, folder / WEIGHTS)
        found = {'weights': {'sha256': Files().content(folder / WEIGHTS), 'path': str(folder / WEIGHTS)}}
    else:
        found = {'metrics': _evaluate(cfg, last, folder, job.get('asked', ())), 'weights': weights}
    seconds = round(time.monotonic() - begin, 2)
    times = {'seconds': seconds, 'resumed': resumed, 'started': started, 'finished': now()}
    _write_result(folder, job, found | times)


def _is_done(folder, job, weights):
    found = read_result(folder / RESULT)
    if job['kind'] == 'pretraining':
        return found is not None and (folder / WEIGHTS).is_file()
    return found is not None and found['weights'] == weights


def _evaluate(cfg, checkpoint, folder, wanted):
    """Metrics on the test split.

    Raises:
        UserError: If a wanted one is not among them.
    """
    from mae_toolkit.apis.training import test

    numbers = test(cfg, str(checkpoint), str(folder / 'test'))
    lacking = [name for name in wanted if name not in numbers]
    if lacking:
        raise UserError(f'The test gives no metric {lacking[0]!r}{suggest(lacking[0], sorted(numbers))}')
    return {name: float(value) for name, value in numbers.items()}


def _weights(job):
    """Path and hash of the weights with which the encoder begins; None from scratch.

    Raises:
        UserError: If they are not there, or not those that were meant.
    """
    given = job['weights']
    if given is None or job['kind'] == 'pretraining':
        return None
    found = Files().content(given['path'])
    if found is None:
        raise UserError(f'There is no checkpoint {given["path"]}, from which the encoder was to begin.')
    if given.get('sha256') not in (None, found):
        raise UserError(f'{given["path"]} is another file than when this run was planned: plan again.')
    return {'path': given['path'], 'sha256': found}


def _begin(folder, weights):
    """Go on only with a training that began with these weights; another is thrown away."""
    if (folder / BEGINNING).is_file() and read(folder / BEGINNING) != weights:
        for path in (folder / 'train', folder / 'test'):
            shutil.rmtree(path, ignore_errors=True)
    (folder / RESULT).unlink(missing_ok=True)
    atomic_write(folder / BEGINNING, json.dumps(weights) + '\n')


def _write_result(folder, job, found):
    from mae_toolkit.transfer.machine import device, versions

    config = Files().content(folder / CONFIG)
    result = {'status': 'done', **job, **found, 'config_sha256': config, 'device': device(), 'versions': versions()}
    atomic_write(folder / RESULT, json.dumps(result, indent=2) + '\n')
    if job['kind'] == 'run' and not job['keep_checkpoints']:
        remove_weights(folder)


def remove_weights(folder):
    """Delete the checkpoints of a run that has its result."""
    for path in (folder / 'train').glob('*.pth'):
        path.unlink(missing_ok=True)


def _link(path, name):
    """Give a checkpoint a second name, that of the last one."""
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
    sys.exit(work(sys.argv[1]))
