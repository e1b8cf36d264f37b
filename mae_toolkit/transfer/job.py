"""Runs and pretrainings as folders: what they are to do, and how far they are."""

import re
from collections.abc import Container
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from mmengine.config import Config

from mae_toolkit.checkpoints.files import list_checkpoints
from mae_toolkit.engine.locks import find_holder, lock_folder
from mae_toolkit.files import atomic_write
from mae_toolkit.transfer.records import read_record
from mae_toolkit.transfer.run_records import (
    Failure,
    PretrainingRecord,
    PretrainingResult,
    RunRecord,
    RunResult,
    SlurmJob,
    parse_job,
    parse_result,
)

DONE, RUNNING, QUEUED, FAILED, BEGUN, MISSING = 'done', 'running', 'queued', 'failed', 'begun', 'missing'
STATES = (DONE, RUNNING, QUEUED, FAILED, BEGUN, MISSING)
# Files in the folder of a job.
JOB, CONFIG, RESULT, FAILURE, QUEUE, LOG = (
    'job.json',
    'config.py',
    'result.json',
    'failure.json',
    'slurm.json',
    'log.txt',
)
WEIGHTS = 'pretrained.pth'
LOG_BYTES = 20_000  # of the end of a log, in which its last lines are looked for


@dataclass(frozen=True, eq=False)
class Job:
    """A run, or a pretraining that comes before runs.

    Attributes:
        id: Hash of all that decides its numbers.
        folder: Folder of all its files.
        record: What it is to do.
        cfg: The complete config.
        needs: The pretraining that makes its weights.
    """

    id: str
    folder: Path
    record: RunRecord | PretrainingRecord
    cfg: Config
    needs: Self | None = None

    def prepare(self) -> None:
        """Write what a process needs to run it, unless another process works in the folder, which needed the same."""
        with lock_folder(self.folder) as free:
            if free:
                atomic_write(self.folder / CONFIG, self.cfg.pretty_text)
                self.record.write(self.folder / JOB)

    def state(self, queued: Container[str] = ()) -> str:
        """Find out how far the job is.

        Args:
            queued: Numbers of the jobs that Slurm has.

        Returns:
            One of :data:`STATES`.
        """
        if self.result() is not None and (isinstance(self.record, RunRecord) or (self.folder / WEIGHTS).is_file()):
            return DONE
        if find_holder(self.folder) is not None:
            return RUNNING
        submitted = SlurmJob.read(self.folder / QUEUE)
        if submitted is not None and submitted.number in queued:
            return QUEUED
        if submitted is not None or (self.folder / FAILURE).is_file():
            return FAILED
        return BEGUN if list_checkpoints(self.folder / 'train') else MISSING

    def result(self) -> RunResult | PretrainingResult | None:
        """Read the result; None if there is none, or it is of weights that have been pretrained anew since."""
        found = read_result(self.folder)
        if found is None or self.needs is None:
            return found
        made = self.needs.result()
        outdated = made is not None and found.weights_sha256 != made.weights_sha256
        return None if outdated else found

    def describe_failure(self) -> str:
        """Return the last line that was heard of a job that failed."""
        failure = Failure.read(self.folder / FAILURE)
        return failure.last_lines[-1] if failure and failure.last_lines else 'its pretraining failed'


def read_job(folder: Path) -> RunRecord | PretrainingRecord | None:
    """Read what the job of a folder is to do; None where nothing is written down.

    Raises:
        UserError: If the file is damaged.
    """
    return read_record(folder / JOB, parse_job)


def read_result(folder: Path) -> RunResult | PretrainingResult | None:
    """Read the result in the folder of a job; None where there is none.

    Raises:
        UserError: If the file is damaged.
    """
    return read_record(folder / RESULT, parse_result)


def slug(text: object) -> str:
    """Make a text part of a file name: everything but letters, digits and dots becomes a hyphen."""
    return re.sub(r'[^A-Za-z0-9.]+', '-', str(text)).strip('-') or 'x'


def tail(path: Path, lines: int = 15) -> list[str]:
    """Read the last lines of a log, without the redrawn lines of progress bars."""
    if not path.is_file():
        return []
    with open(path, 'rb') as file:
        file.seek(max(0, path.stat().st_size - LOG_BYTES))
        text = file.read().decode(errors='replace')
    return [line.rsplit('\r', 1)[-1] for line in text.splitlines() if line.strip()][-lines:]
