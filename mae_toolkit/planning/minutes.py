"""The minutes that a user gives to a command, and how many steps of training fit into what is left of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from mae_toolkit.printing import format_count

RESERVE = 0.05  # of what is left: steps become slower when another program needs the device, and files are written
FEWEST_STEPS = 4  # of a training, however short its time: two to warm up, and as many behind it


@dataclass(frozen=True)
class TimeLimit:
    """Wall time of a whole command, from its first line to its last one.

    Example: ``limit = TimeLimit(2)`` when a command begins; after images were looked at and steps tried for 20 s,
    ``limit.count_seconds_left()`` is 100.

    Attributes:
        minutes: What the user gave.
        begin: Time of ``time.perf_counter`` at which they began.
    """

    minutes: float
    begin: float = field(default_factory=time.perf_counter)

    def count_seconds_left(self) -> float:
        """Return how many seconds are left, less than 0 if they are over."""
        return 60 * self.minutes - (time.perf_counter() - self.begin)

    def count_minutes_left(self) -> float:
        """Return how many minutes are left, for what has to be given a time: at least a second."""
        return max(1.0, self.count_seconds_left()) / 60


def fit_steps(
    seconds: float, per_step: float, per_validation: float, validations: int, share: float
) -> tuple[int, int]:
    """Return how many steps fit into some seconds, and how many validations.

    Example: of 100 s, with steps of 0.5 s and validations of 3 s, which may take a tenth of the time, three validations
    take 9 s and a twentieth is kept: 172 steps.

    Args:
        seconds: What is left for the training, without what begins and ends it.
        per_step: Seconds of a step, with its data.
        per_validation: Seconds of a validation, with the pictures and checkpoints that come with it.
        validations: Most validations, above 0; there is one at least.
        share: Share of the seconds that validations may take.
    """
    count = min(validations, max(1, int(share * seconds / max(per_validation, 1e-9))))
    steps = ((1 - RESERVE) * seconds - count * per_validation) / per_step
    return max(FEWEST_STEPS, int(steps)), count


def describe_time(began: float, limit: TimeLimit | None) -> str:
    """Say at the end of a command how long it took, and how long it should have taken.

    Args:
        began: Time of ``time.perf_counter`` at which it began.
        limit: The minutes that the user gave, if any.
    """
    given = '' if limit is None else f', of {format_count(limit.minutes, "minute")} given'
    return f'Minutes in all, from the first line: {(time.perf_counter() - began) / 60:.1f}{given}.'
