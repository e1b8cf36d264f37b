"""Check before training what the schedules of learning rate, weight decay and momentum do over its whole length."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

import torch
from mmengine.optim.scheduler import param_scheduler as mmengine_schedules
from mmengine.registry import PARAM_SCHEDULERS

from mae_toolkit.engine._mmengine import start_counting_steps
from mae_toolkit.errors import UserError

MOST_STEPS = 4000  # in a simulation; longer trainings are simulated in fewer, larger steps
COUNTED = ('begin', 'end', 'T_max', 'step_size', 'total_steps', 'milestones', 'periods')  # arguments in steps or epochs
REACHED = 0.9  # share of the learning rate from which a peak counts as reached, as a warm-up may overlap a decay
LOW = 0.2  # share of the peak below which a learning rate trains little

Schedule = dict[str, Any]  # the config of one
Series = list[tuple[int, float]]  # pairs of step and value


@dataclass(frozen=True)
class TrainingLength:
    """The length of a training.

    Attributes:
        steps: Iterations in all.
        epoch_length: Iterations of an epoch.
        max_epochs: Epochs in all; None if the length is set in iterations.
    """

    steps: int
    epoch_length: int
    max_epochs: int | None = None

    def describe(self) -> str:
        """Return the setting that decides the length, such as ``max_epochs=20``."""
        return f'max_iters={self.steps}' if self.max_epochs is None else f'max_epochs={self.max_epochs}'


class _Settings(torch.optim.Optimizer):
    """Optimizer without parameters, whose settings the schedules change."""

    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Change no parameter."""


def check_schedules(schedules: Sequence[Schedule], optimizer: dict[str, Any], length: TrainingLength) -> list[str]:
    """Simulate all schedules of a training, and return warnings.

    Args:
        schedules: Configs, as in ``param_scheduler``.
        optimizer: Settings of the optimizer, such as ``lr`` and ``weight_decay``.
        length: Length of the training.

    Returns:
        Sentences about what is probably a mistake: a learning rate that is never reached, or that stays low for long.

    Raises:
        UserError: If a schedule cannot be followed at all, or makes a value negative, infinite or NaN.
    """
    warnings: list[str] = []
    for i, schedule in enumerate(schedules):
        place = f'param_scheduler[{i}] ({_get_name(schedule)})'
        _check_unit(schedule, place, length)
        warnings += _warn_about_schedule(schedule, place, length)
    simulated = [schedule for schedule in schedules if _is_simulated(schedule)]
    values = simulate(simulated, optimizer, length)
    for name, series in values.items():
        _check_values(name, series)
    if values.get('lr') and len(simulated) == len(schedules):
        warnings += _warn_about_learning_rate(values['lr'], optimizer['lr'], schedules, length)
    return warnings


def simulate(schedules: Sequence[Schedule], optimizer: dict[str, Any], length: TrainingLength) -> dict[str, Series]:
    """Step through the schedules of a training without a model.

    Args:
        schedules: Configs, as in ``param_scheduler``.
        optimizer: Settings of the optimizer.
        length: Length of the training.

    Returns:
        Pairs of step and value by the name of the setting; in a long training, not for every step.
    """
    pace: float = max(1, math.ceil(length.steps / MOST_STEPS))
    epoch_length = max(1, round(length.epoch_length / pace))
    if length.max_epochs is not None:
        pace = length.epoch_length / epoch_length
    steps = max(1, round(length.steps / pace))
    dummy = _Settings([torch.zeros(1)], {name: value for name, value in optimizer.items() if name != 'type'})
    group = dummy.param_groups[0]
    built = [_build(schedule, dummy, length, epoch_length, pace) for schedule in schedules]
    start_counting_steps(dummy)
    names = {schedule.param_name for schedule in built}
    series = {name: [(0, group[name])] for name in names}
    for step in range(1, steps):
        for schedule in built:
            if not schedule.by_epoch or step % epoch_length == 0:
                schedule.step()
        for name in names:
            series[name].append((round(step * pace), group[name]))
    return series


def _build(
    schedule: Schedule, optimizer: torch.optim.Optimizer, length: TrainingLength, epoch_length: int, pace: float
) -> Any:
    """Build a schedule for a simulation whose steps are ``pace`` times as long as those of the training."""
    config = {
        'end': length.max_epochs if schedule.get('by_epoch', True) else length.steps,
        **schedule,
        'verbose': False,
    }
    if not schedule.get('by_epoch', True):
        for key in COUNTED:
            config[key] = _shorten(config[key], pace) if config.get(key) is not None else None
        config = {key: value for key, value in config.items() if value is not None}
        config['end'] = max(config['end'], config.get('begin', 0) + 1)
        if 'gamma' in config and 'Exponential' in _get_name(schedule):
            config['gamma'] = config['gamma'] ** pace
    return PARAM_SCHEDULERS.build(config, default_args={'optimizer': optimizer, 'epoch_length': epoch_length})


def _shorten(count: Any, pace: float) -> Any:
    if isinstance(count, list | tuple):
        return [_shorten(item, pace) for item in count]
    return count if count in (0, mmengine_schedules.INF) else max(1, round(count / pace))


def _get_name(schedule: Schedule) -> str:
    kind = schedule.get('type')
    return kind if isinstance(kind, str) else getattr(kind, '__name__', str(kind))


def _is_simulated(schedule: Schedule) -> bool:
    """Return whether a schedule is one of MMEngine's that depend only on the step."""
    kind = PARAM_SCHEDULERS.get(schedule['type']) if isinstance(schedule['type'], str) else schedule['type']
    if not isinstance(kind, type) or issubclass(kind, mmengine_schedules.ReduceOnPlateauParamScheduler):
        return False
    return kind.__module__.startswith('mmengine.')


def _check_unit(schedule: Schedule, place: str, length: TrainingLength) -> None:
    """Refuse a schedule that counts epochs in a training that counts iterations."""
    if length.max_epochs is None and schedule.get('by_epoch', True) and not schedule.get('convert_to_iter_based'):
        raise UserError(
            f'{place} counts epochs, and the training counts iterations (max_iters={length.steps}), so that it would '
            'never move: set by_epoch=False in it, and its begin and end in iterations.'
        )


def _find_span(schedule: Schedule, length: TrainingLength) -> tuple[int, int]:
    """Return the first step of a schedule and the step after its last."""
    unit = length.epoch_length if schedule.get('by_epoch', True) else 1
    end = schedule.get('end')
    end = length.steps if end is None or end >= mmengine_schedules.INF else int(end * unit)
    return int(schedule.get('begin', 0) * unit), end


def _warn_about_schedule(schedule: Schedule, place: str, length: TrainingLength) -> Iterator[str]:
    """Compare the numbers of one schedule with the length of the training."""
    begin, end = _find_span(schedule, length)
    unit, noun = (length.epoch_length, 'epoch') if schedule.get('by_epoch', True) else (1, 'step')
    last = length.steps // unit
    if begin >= length.steps:
        yield f'{place} begins at {noun} {begin // unit}, when the training of {length.describe()} has ended.'
        return
    milestones = schedule.get('milestones') or []
    late = [milestone for milestone in milestones if begin + milestone * unit >= min(end, length.steps)]
    if late:
        yield f'{place}: the milestones {late} are not reached, as the training has {last} {noun}s: shorten them.'
    falls = any(word in _get_name(schedule) for word in ('Cosine', 'Poly')) and 'Restart' not in _get_name(schedule)
    if falls and end > length.steps * 1.05:
        yield (
            f'{place} ends at {noun} {end // unit} and the training at {last}, so that its last value is never '
            f'reached: leave its end out to follow {length.describe()}.'
        )
    period = schedule.get('T_max')
    if period and falls and not 0.95 <= period * unit / (min(end, length.steps) - begin) <= 1.06:
        yield (
            f'{place}: T_max={period}, and it goes on for {(min(end, length.steps) - begin) // unit} {noun}s: '
            + ('its last value is never reached' if period * unit > end - begin else 'it rises again after T_max')
            + '; leave T_max out.'
        )


def _check_values(name: str, series: Series) -> None:
    """Refuse values that are negative, infinite or NaN, and momentum of 1 or more."""
    for step, value in series:
        if not math.isfinite(value) or value < -1e-12 or (name == 'momentum' and value >= 1):
            bound = ' from 0 to below 1' if name == 'momentum' else ', finite and not negative'
            raise UserError(
                f'The param_scheduler makes {name} {value:.3g} at step {step}; it must be a number{bound}: look at '
                'gamma, power, eta_min, begin and end.'
            )


def _warn_about_learning_rate(
    series: Series, lr: float, schedules: Sequence[Schedule], length: TrainingLength
) -> Iterator[str]:
    """Look at the learning rates of a whole training."""
    # Without the last: some schedules of MMEngine end with one step of the full learning rate.
    peak = max(value for _, value in series[:-1] or series)
    one_cycle = any('OneCycle' in _get_name(schedule) for schedule in schedules)
    if peak <= 0:
        raise UserError(f'The learning rate is 0 at all {length.steps} steps: look at lr and the param_scheduler.')
    if peak < REACHED * lr and not one_cycle:
        spans = [_find_span(schedule, length) for schedule in schedules if _sets_learning_rate(schedule)]
        if any(end - begin == 1 for begin, end in spans):
            cause = 'a warm-up of one step never leaves its start_factor: make it at least two steps, or leave it out'
        else:
            cause = (
                f'the training of {length.describe()} is not longer than its warm-up, or a factor holds it down: train '
                'longer, shorten the warm-up, or raise the factor'
            )
        yield f'The learning rate never exceeds {peak:.3g} of the lr={lr:.3g}: {cause}.'
        return
    last = series[-1][1]
    if last > 1.001 * lr and not one_cycle:
        yield f'The learning rate rises from lr={lr:.3g} to {last:.3g} at the end: is an eta_min above lr meant?'
    constant = takewhile(lambda pair: math.isclose(pair[1], last, rel_tol=1e-6), reversed(series))
    since = min(step for step, _ in constant)
    share = (length.steps - since) / length.steps
    ends = [_find_span(schedule, length)[1] for schedule in schedules if _sets_learning_rate(schedule)]
    if last < LOW * peak and share > (0.05 if max(ends) < length.steps else 1 / 3):
        yield (
            f'The learning rate stays at {last:.3g} from step {since} to the end at step {length.steps}, {share:.0%} '
            f'of the training; its highest is {peak:.3g}. Leave the end of the last schedule out, or move its '
            f'milestones, to follow {length.describe()}.'
        )
    yield from _warn_about_late_warmups(schedules, length)


def _sets_learning_rate(schedule: Schedule) -> bool:
    return schedule.get('param_name', 'lr') == 'lr' and 'Momentum' not in _get_name(schedule)


def _warn_about_late_warmups(schedules: Sequence[Schedule], length: TrainingLength) -> Iterator[str]:
    """Look for warm-ups that follow steps at the full learning rate."""
    first = min(_find_span(schedule, length)[0] for schedule in schedules if _sets_learning_rate(schedule))
    for i, schedule in enumerate(schedules):
        rises = schedule.get('start_factor', 1 / 3) < schedule.get('end_factor', 1)
        is_warmup = _get_name(schedule).startswith('Linear') and rises and _sets_learning_rate(schedule)
        if is_warmup and _find_span(schedule, length)[0] == first > 0:
            yield (
                f'param_scheduler[{i}] ({_get_name(schedule)}) begins its warm-up at step {first}, after as many steps '
                'at the full learning rate: let it begin at 0.'
            )


def list_ends(schedulers: Any) -> list[int]:
    """List where built schedules end, in their own steps."""
    return [scheduler.end for scheduler in schedulers] if isinstance(schedulers, list) else []


def compare_ends(path: str, planned: Sequence[int], loaded: Sequence[int]) -> list[str]:
    """Warn about schedules of a resumed run that end elsewhere than its config says.

    Args:
        path: The checkpoint.
        planned: Where schedules end by the config.
        loaded: Where they end by the checkpoint.
    """
    return [
        f'In {path} a schedule of the learning rate ended at step {there} and here ends at {here}: it goes on as it '
        'was; to train longer by a new schedule, start with load_from.'
        for here, there in zip(planned, loaded, strict=True)
        if here != there
    ]
