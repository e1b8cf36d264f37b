"""What must not be started anew: by torchrun (``--max-restarts``) or by a job of Slurm (``tools/slurm_job.sh``).

torchrun takes every exit status but 0 for a failure. So a process that ends on purpose leaves a note beside torchrun's
own reports of errors, and those that are started in its place read it, and end likewise.

``srun`` kills the other processes of a training of which one has failed, and ends with the greatest status, which is
that of a killed process. So the one that failed leaves a note, too.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mae_toolkit.files import atomic_write
from mae_toolkit.printing import first_line

FILE = 'ended_on_purpose.json'
FAILURE_NOTE = 'FAILURE_NOTE'  # environment variable with the path of the note that a job of Slurm reads
# Errors that may come from elsewhere: another process that is gone, a device, a disk. Another start may get past them.
OF_THE_SYSTEM = (RuntimeError, OSError, MemoryError)


def note_end(status: int, sentence: str, env: Mapping[str, str] = os.environ) -> None:
    """Note that the run ends on purpose; without torchrun nothing happens.

    Args:
        status: Exit status.
        sentence: Why it ends.
        env: The environment.
    """
    file = _find_file(env)
    if file is not None:
        with suppress(OSError):  # a full disk must not hide why the run ends
            atomic_write(file, json.dumps([status, sentence]))


def read_end(env: Mapping[str, str] = os.environ) -> tuple[int, str] | None:
    """Read status and sentence with which the processes before this one ended on purpose; None if they did not.

    Args:
        env: The environment.
    """
    file = _find_file(env)
    if file is None or env.get('TORCHELASTIC_RESTART_COUNT', '0') in ('', '0'):
        return None
    try:
        status, sentence = json.loads(file.read_text())
    except (OSError, ValueError):
        return None
    return int(status), str(sentence)


def note_failure(error: BaseException, env: Mapping[str, str] = os.environ) -> None:
    """Note that the run fails by an error that another start would meet again; without a job of Slurm nothing happens.

    Args:
        error: The error.
        env: The environment.
    """
    file = env.get(FAILURE_NOTE)
    if file and not isinstance(error, OF_THE_SYSTEM):
        with suppress(OSError):
            atomic_write(Path(file), f'{type(error).__name__}: {first_line(error)}\n')


def _find_file(env: Mapping[str, str]) -> Path | None:
    """Find the file in the folder of this run of torchrun, which has ``attempt_K/RANK/error.json`` in it."""
    report = env.get('TORCHELASTIC_ERROR_FILE')
    return Path(report).parents[2] / FILE if report and len(Path(report).parents) > 2 else None
