"""What checkpoints and failures cost a long training."""

from __future__ import annotations

import math
from dataclasses import dataclass

# GPU hours between two interruptions that stop a job: 419 in 54 days of 16384 GPUs (Llama 3, arXiv:2407.21783, section
# 3.3.4).
HOURS_BETWEEN_FAILURES = 50_000.0


@dataclass(frozen=True)
class Failures:
    """What is lost by saving and by failures.

    Attributes:
        hours_between: Mean hours between two failures of the job.
        interval: Seconds of training between two checkpoints for which the least is lost.
        lost: Share of the time that is lost at that interval.
    """

    hours_between: float
    interval: float
    lost: float


def plan_checkpoints(save: float, restart: float, gpus: int, gpu_hours: float = HOURS_BETWEEN_FAILURES) -> Failures:
    """Choose how often to save, by Young (1974) as Daly (2006) has it to first order.

    A failure loses half an interval and the restart; saving takes its share of each interval: the sum is least at
    ``sqrt(2 * save * mean time between failures)``.

    Args:
        save: Seconds that training waits for a save.
        restart: Seconds from a failure to the first new step.
        gpus: Number of GPUs; one that fails stops the job.
        gpu_hours: Mean hours between two failures of one GPU with its part of the node.
    """
    between = gpu_hours / gpus * 3600
    interval = math.sqrt(2 * save * between)
    return Failures(between / 3600, interval, lost_share(interval, save, restart, between))


def lost_share(interval: float, save: float, restart: float, between: float) -> float:
    """Return the share of the time that is lost when saving at an interval, in seconds; at most 1."""
    saving = save / (interval + save) if interval + save else 0.0
    return min(1.0, saving + (interval / 2 + restart) / between)
