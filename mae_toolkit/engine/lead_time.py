"""How long before its end a job must be told to stop: measured in a run, and written into its folder."""

import json
import math
import time
from pathlib import Path

from mae_toolkit.files import atomic_write

FILE = 'preemption.json'
MARGIN = 10.0  # seconds


class LeadTime:
    """The time that a run needs to end in order: the rest of a step, another one, and a checkpoint.

    The step is the longest between two of its ends, with the validation and the checkpoints in between. Of several
    processes each learns one step later that another one was told to stop.

    Attributes:
        longest_step: Seconds.
        longest_save: Seconds.
    """

    def __init__(self) -> None:
        self.longest_step = self.longest_save = 0.0
        self._steps, self._seconds = 0, 0.0
        self._step_ended: float | None = None
        self._save_began: float | None = None

    def end_step(self) -> None:
        """Note that a step has ended; the first one, with its compilation, is not counted."""
        now = time.monotonic()
        if self._step_ended is not None:
            seconds = now - self._step_ended
            self.longest_step = max(self.longest_step, seconds)
            self._steps, self._seconds = self._steps + 1, self._seconds + seconds
        self._step_ended = now

    def begin_save(self) -> None:
        """Note that a checkpoint is about to be written."""
        self._save_began = time.monotonic()

    def end_save(self) -> bool:
        """Note that a checkpoint is written, and return whether one was begun."""
        if self._save_began is None:
            return False
        self.longest_save = max(self.longest_save, time.monotonic() - self._save_began)
        self._save_began = None
        return True

    def compute(self) -> int | None:
        """Compute the lead in whole seconds; None before a step and a checkpoint were measured."""
        if not self._steps or not self.longest_save:
            return None
        return math.ceil(1.5 * (self.longest_step + self._seconds / self._steps + self.longest_save) + MARGIN)

    def write(self, work_dir: str | Path) -> None:
        """Write the lead into a run's folder for the next submission; nothing before it is known."""
        lead = self.compute()
        if lead is not None:
            found = dict(
                lead_seconds=lead,
                longest_step_seconds=round(self.longest_step, 3),
                longest_save_seconds=round(self.longest_save, 3),
            )
            atomic_write(Path(work_dir, FILE), json.dumps(found) + '\n')


def read_lead_time(work_dir: str | Path) -> int | None:
    """Read the lead in seconds that a run has measured; None if there is none."""
    try:
        lead = json.loads(Path(work_dir, FILE).read_text())['lead_seconds']
    except (OSError, ValueError, LookupError, TypeError):
        return None
    return lead if type(lead) is int and lead > 0 else None
