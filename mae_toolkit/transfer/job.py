"""Runs and pretrainings as folders: what they are, and how far they are."""

import json
import re
from dataclasses import dataclass
from pathlib import Path

from mae_toolkit.engine.locks import find_holder, lock_folder
from mae_toolkit.files import atomic_write
from mae_toolkit.transfer.records import NUMBER, damaged_record, find_damage, read_record

DONE, RUNNING, QUEUED, FAILED, BEGUN, MISSING = 'done', 'running', 'queued', 'failed', 'begun', 'missing'
STATES = (DONE, RUNNING, QUEUED, FAILED, BEGUN, MISSING)
JOB, CONFIG, RESULT, FAILURE, QUEUE, LOG = (
    'job.json',
    'config.py',
    'result.json',
    'failure.json',
    'slurm.json',
    'log.txt',
)
WEIGHTS = 'pretrained.pth'
SHAPES = {
    JOB: {'id': str, 'kind': str, 'config': str, 'weights': dict | None, 'keep_checkpoints': bool},
    QUEUE: {'job': str},
    FAILURE: {'last_lines': list},
}
# What result.json has, of pretrainings and of runs.
PRETRAINED = {'id': str, 'settings': str, 'seconds': NUMBER, 'resumed': bool, 'weights': {'path': str, 'sha256': str}}
RAN = {
    **dict.fromkeys(('id', 'settings', 'encoder', 'task', 'family', 'config', 'device', 'started', 'finished'), str),
    'config_sha256': str | None,
    'labels': NUMBER,
    'seed': int,
    'seconds': NUMBER,
    'resumed': bool,
    'options': dict,
    'data': {'*': str | None},
    'versions': {'mae_toolkit': str, 'commit': str | None, '*': str | None},
    'metrics': {'*': NUMBER},
    'weights': (type(None), {'path': str, 'sha256': str}),
    'pretraining': (type(None), {'id': str, 'config': str, 'settings': str}),
}


@dataclass(frozen=True, eq=False)
class Job:
    """A run, or a pretraining that comes before runs.

    Attributes:
        id (str): Hash of all that decides its numbers.
        folder (Path): Holds everything of it.
        record (dict): What it is, in plain values: ``job.json``.
        cfg (Config): The complete config.
        needs (Job | None): The pretraining that makes its weights.
    """

    id: str
    folder: Path
    record: dict
    cfg: object
    needs: 'Job | None' = None

    def prepare(self):
        """Write what a process needs to run it, unless another process works in the folder, which needed the same."""
        with lock_folder(self.folder) as free:
            if not free:
                return
            atomic_write(self.folder / CONFIG, self.cfg.pretty_text)
            atomic_write(self.folder / JOB, json.dumps(self.record, indent=2) + '\n')

    def state(self, queued=()):
        """How far it is.

        Args:
            queued (Container[str]): Numbers of the jobs that Slurm has.
        """
        if self.result() is not None and (self.record['kind'] == 'run' or (self.folder / WEIGHTS).is_file()):
            return DONE
        if find_holder(self.folder) is not None:
            return RUNNING
        if (read(self.folder / QUEUE) or {}).get('job') in queued:
            return QUEUED
        if (self.folder / FAILURE).is_file() or (self.folder / QUEUE).is_file():
            return FAILED
        return BEGUN if any((self.folder / 'train').glob('*.pth')) else MISSING

    def result(self):
        """Its result, or None; one of weights that were pretrained anew since is none."""
        found = read_result(self.folder / RESULT)
        if found is None or self.needs is None:
            return found
        made = self.needs.result()
        outdated = made is not None and made['weights']['sha256'] != found['weights']['sha256']
        return None if outdated else found


def read(path):
    """Read one of the JSON files of a run; None where there is none.

    Raises:
        UserError: If it is damaged.
    """
    return read_record(path, SHAPES.get(Path(path).name, dict))


def read_result(path):
    """Read the result of a run or of a pretraining; None where there is none.

    Raises:
        UserError: If it is damaged.
    """
    found = read_record(path, dict)
    if found is not None and (damage := find_damage_of_result(found)):
        raise damaged_record(path, damage)
    return found


def find_damage_of_result(result):
    """Find what a result lacks, or has of another type; None if it is whole."""
    return find_damage(result, PRETRAINED if result.get('kind') == 'pretraining' else RAN)


def slug(text):
    """A text as part of a file name."""
    return re.sub(r'[^A-Za-z0-9.]+', '-', str(text)).strip('-') or 'x'


def tail(path, lines=15):
    """The last lines of a log, without the redrawn lines of progress bars."""
    path = Path(path)
    if not path.is_file():
        return []
    with open(path, 'rb') as file:
        file.seek(max(0, path.stat().st_size - 20000))
        text = file.read().decode(errors='replace')
    return [line.rsplit('\r', 1)[-1] for line in text.splitlines() if line.strip()][-lines:]
