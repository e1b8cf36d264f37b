"""Jobs that are queued again and again: one that gets nowhere ends."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

FILE = 'requeues.json'
IN_VAIN = 2  # starts of a job at the same iteration, after which another one is refused


def check_progress(work_dir: str | Path, iteration: int, env: Mapping[str, str] = os.environ) -> None:
    """Note at which iteration a Slurm job starts, and refuse one that was requeued twice without a step in between.

    Args:
        work_dir: Folder of the run.
        iteration: Iterations that are done.
        env: The environment, where Slurm says how often it has requeued the job. Without Slurm nothing happens.

    Raises:
        UserError: If the job has started here twice before.
    """
    job, requeues = env.get('SLURM_JOB_ID'), env.get('SLURM_RESTART_COUNT', '0')
    if job is None:
        return
    starts = _read(work_dir, job) if requeues.isdigit() and int(requeues) else []
    if starts[-IN_VAIN:] == [iteration] * IN_VAIN:
        raise UserError(
            f'Job {job} has started {IN_VAIN} times after {iteration} iterations and saved no step since: it is not '
            f'tried again. See in the log why it was stopped; if its time was too short for a step and a checkpoint, '
            f'submit it with a longer one.'
        )
    atomic_write(Path(work_dir, FILE), json.dumps(dict(job=job, starts=[*starts, iteration][-IN_VAIN:])) + '\n')


def _read(work_dir: str | Path, job: str) -> list[int]:
    """Read at which iterations a job has started before."""
    try:
        found = json.loads(Path(work_dir, FILE).read_text())
        return list(found['starts']) if found['job'] == job else []
    except (OSError, ValueError, LookupError, TypeError):
        return []
