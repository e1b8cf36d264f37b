"""The minutes that a user gives to a command, and how many steps of training fit into what is left of them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

from mae_toolkit.config.knobs import Knob
from mae_toolkit.engine.minutes import FEWEST_STEPS

RESERVE = 0.05  # of what is left: steps become slower when another program needs the device, and files are written


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
        """Return how many seconds are left, negative if the time is over."""
        return 60 * self.minutes - (time.perf_counter() - self.begin)

    def count_minutes_left(self) -> float:
        """Return how many minutes are left, at least a second's worth."""
        return max(1.0, self.count_seconds_left()) / 60


def fit_steps(
    seconds: float, per_step: float, per_validation: float, validations: int, share: float
) -> tuple[int, int]:
    """Return how many steps fit into some seconds, and how many validations.

    Example: in 100 s, with steps of 0.5 s and validations of 3 s that may take a tenth of the time, 5 s are kept in
    reserve and three validations take 9 s, which leaves 86 s for 172 steps.

    Args:
        seconds: What is left for the training, without what begins and ends it.
        per_step: Seconds of a step, with its data.
        per_validation: Seconds of a validation, with the pictures and checkpoints that come with it.
        validations: Most validations, 1 or more; at least one is planned.
        share: Share of the seconds that validations may take.
    """
    count = min(validations, max(1, int(share * seconds / max(per_validation, 1e-9))))
    steps = ((1 - RESERVE) * seconds - count * per_validation) / per_step
    return max(FEWEST_STEPS, int(steps)), count


def note_minutes(minutes: float) -> Knob:
    """Write down in the config what a user gave as --minutes, so that a resumed run can be compared with it.

    Args:
        minutes: Wall time of the whole command.
    """
    return Knob(minutes, '--minutes, to which the length was fitted; for information only')


def describe_overrun(limit: TimeLimit, needed: float) -> str | None:
    """Say in one sentence, before a training, that its command will take longer than its minutes; None if not.

    Args:
        limit: The minutes that the user gave.
        needed: Seconds that the rest of the command takes at least.
    """
    wanted = 60 * limit.minutes
    total = wanted - limit.count_seconds_left() + needed
    if total <= (1 + RESERVE) * wanted:
        return None
    return (
        f'--minutes {limit.minutes:g} are too few: the whole command takes about {total / 60:.2g} minutes, however '
        'short its training.'
    )


def describe_time(began: float, limit: TimeLimit | None) -> str:
    """Say at the end of a command how long it took, and how long it was meant to take.

    Args:
        began: Time of ``time.perf_counter`` at which it began.
        limit: The minutes that the user gave, if any.
    """
    given = '' if limit is None else f', with --minutes {limit.minutes:g}'
    return f'The whole command took {(time.perf_counter() - began) / 60:.1f} minutes{given}.'
