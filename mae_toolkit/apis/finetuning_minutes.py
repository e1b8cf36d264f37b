"""Fit a plan of fine-tuning into the minutes of the whole command, by steps that are timed on the device."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from mae_toolkit.apis.finetuning_tasks import Plan
from mae_toolkit.config.knobs import Knob
from mae_toolkit.config.load import load_config
from mae_toolkit.engine.minutes import FEWEST_STEPS, TimedLength, time_training
from mae_toolkit.planning.finetuning import ENOUGH_STEPS, fit_length
from mae_toolkit.planning.minutes import TimeLimit, describe_overrun

LEAST_SHARE = 0.6  # of the minutes that is for training and its validations


def fit_plan(plan: Plan, write: Callable[[Plan], Path], limit: TimeLimit, wanted: Mapping[str, Knob]) -> Plan:
    """Time steps on the device, and return the plan with the steps or epochs, and validations, that fit.

    If few steps fit, each is made cheaper first, as a model learns little in a handful of steps, however large. If the
    command will take longer than the minutes all the same, that is said.

    Args:
        plan: The plan.
        write: Function that writes the config of a plan.
        limit: The minutes of the whole command.
        wanted: Settings that the user chose, which stay.
    """
    timed = time_config(write(plan), limit)
    steps = count_seconds(plan, timed, limit) / timed.seconds_per_step
    if steps < ENOUGH_STEPS:
        free = {name: knob for name, knob in plan.knobs.items() if name not in wanted}
        smaller = plan.shrink(free, max(1.0, steps) / ENOUGH_STEPS)
        if smaller:
            plan = replace(plan, knobs=plan.knobs | smaller)
            timed = time_config(write(plan), limit)
    seconds = count_seconds(plan, timed, limit)
    least = max(seconds, FEWEST_STEPS * timed.seconds_per_step + timed.seconds_per_validation)
    if warning := describe_overrun(limit, count_other_seconds(plan, timed) + least):
        print(f'Note: {warning}\n', flush=True)
    validations = int(wanted['validations'].value) if 'validations' in wanted else None
    fitted = fit_length(timed, seconds, limit.minutes, 'steps' in plan.knobs, validations)
    return replace(plan, knobs={**plan.knobs, **fitted, **wanted})


def time_config(config: Path, limit: TimeLimit) -> TimedLength:
    """Time the first steps of a config, and remove it: after an interruption, --resume must not train by it."""
    cfg = load_config(config)
    config.unlink()
    return time_training(cfg, config.parent, limit.count_minutes_left())


def count_seconds(plan: Plan, timed: TimedLength, limit: TimeLimit) -> float:
    """Return how many seconds are for steps and validations: what is left, but for the test, and at least a share.

    Of very few minutes nothing would be left for training, so the command takes longer instead.
    """
    return max(limit.count_seconds_left() - count_other_seconds(plan, timed), LEAST_SHARE * 60 * limit.minutes)


def count_other_seconds(plan: Plan, timed: TimedLength) -> float:
    """Return how many seconds the start and the end of a command take whatever the length: the test, and its pictures.

    Models are built three times in them: for the training, the test and the pictures.
    """
    test = timed.seconds_per_validation * plan.counts.get('test', plan.counts['val']) / plan.counts['val']
    return 3 * timed.seconds_to_build + test
