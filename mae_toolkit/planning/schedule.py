"""Settings of the length of a pretraining: batch size, epochs, learning rate, and when to save and validate."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from mae_toolkit.config.knobs import Knob
from mae_toolkit.engine.minutes import FEWEST_STEPS
from mae_toolkit.errors import UserError
from mae_toolkit.planning.costs import Costs
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.minutes import TimeLimit, fit_steps, note_minutes
from mae_toolkit.planning.trials import StepTrial
from mae_toolkit.printing import format_count

PASSES = (100, 400)  # over many images, and over few, in a training from scratch
MANY_SAMPLES = 40_000_000  # crops of a long training: beyond 100,000 images, each is seen fewer times
CONTINUED_SAMPLES = 33_000  # crops of a training that begins with weights: 500 steps of 64, see docs/continue.md
LEAST_STEPS = {False: 5000, True: 500}  # of a training from scratch, and of one that begins with weights
EPOCH_STEPS = (10, 50)  # least steps of a logged epoch, in a short and in a long training
EPOCHS_OF_LOG = 40  # that a training has at least, if it is long
SAVED = 10  # validations of a training, and checkpoints at least
MOST_LOST = 600.0  # seconds of training between two checkpoints, if an epoch of the log is not longer
VALIDATION_SHARE = 0.1  # of the minutes that validations may take, with their pictures
WAIT_STEPS, MOST_WAITING = 30, 0.25  # in which the encoder waits in configs/continue, and share of a training
LEAST_STEPS_OF_EPOCHS = 2  # one to warm up, and one to train
LEAST_STEPS_IF_GIVEN = 300  # of a training whose minutes or epochs a user gives: with fewer, a smaller batch is taken
SHORT_RATE, SHORT_STEPS = 6e-4, 500  # learning rate of a training from scratch of so many steps or fewer
RATE_BATCH = 256  # images per step to which base_lr of the templates refers
GAIN = 1.1  # factor in images per second by which a larger batch must be faster to be worth it


@dataclass(frozen=True)
class Speed:
    """How fast the device trains.

    Attributes:
        step: The batch size that was chosen, and its time.
        loading: Seconds in which one process loads an image.
        workers: Processes that load.
        shares_cores: Whether the steps are computed on the cores that load.
    """

    step: StepTrial
    loading: float
    workers: int
    shares_cores: bool

    @property
    def seconds(self) -> float:
        """Return the expected seconds per step, loading included."""
        loading = self.step.batch * self.loading / max(1, self.workers)
        return self.step.seconds + loading if self.shares_cores else max(self.step.seconds, loading)


@dataclass(frozen=True)
class LoggedEpochs:
    """A training as its log counts it: with few images, several passes over them are one epoch.

    Attributes:
        images: Images that are trained on.
        batch: Images per step.
        steps: Steps of the training.
        repeat: Passes over the images in an epoch of the log.
        count: Epochs of the log, of which the last may end early.
    """

    images: int
    batch: int
    steps: int
    repeat: int
    count: int

    @property
    def length(self) -> int:
        """Return the steps of an epoch of the log."""
        return ceil(self.repeat * self.images / self.batch)


def choose_workers(step: StepTrial, loading: float, device: Device) -> Knob:
    """Choose the number of processes that load images, so that the device does not wait.

    Args:
        step: The batch size, and its time.
        loading: Seconds in which one process loads an image.
        device: What trains.
    """
    needed = -(-step.batch * loading // step.seconds)
    most = max(1, device.cores if device.is_gpu else device.cores // 2)
    return Knob(
        int(min(most, max(1, needed))),
        f'an image takes {1000 * loading:.1f} ms to load, a step {_format_seconds(step.seconds)}',
    )


def find_smallest_batch(images: int, usual: int) -> int:
    """Return the smallest batch to try: the usual one, or the largest power of two that so few images fill.

    Args:
        images: Images in an epoch.
        usual: The smallest batch for many images.
    """
    return min(usual, 2 ** (max(2, images).bit_length() - 1))


def find_largest_batch(images: int, epochs: int | None, has_weights: bool) -> int:
    """Return the largest batch with which a training of so many images still has enough steps.

    Args:
        images: Images in an epoch.
        epochs: Passes over them that the user wants; None for the usual number.
        has_weights: Whether the encoder begins with weights.
    """
    steps = LEAST_STEPS[has_weights] if epochs is None else LEAST_STEPS_IF_GIVEN
    return (epochs or _count_usual_passes(images, has_weights)) * images // steps


def choose_batch(
    trials: list[StepTrial], device: Device, limit: TimeLimit | None, largest: int
) -> tuple[StepTrial, Knob]:
    """Choose among the batch sizes that were tried: the fastest per image that leaves enough steps.

    Of sizes that are nearly as fast, it is the smallest, as it has the most steps.

    Args:
        trials: What was tried, from the smallest to the largest.
        device: What trains.
        limit: The minutes that the user gave, or None.
        largest: The largest batch that leaves enough steps for the images, see :func:`find_largest_batch`.

    Raises:
        UserError: If not even the smallest batch could be computed.
    """
    if not trials:
        raise UserError(f'{device.name} has too little memory for the smallest batch: use a smaller --size or encoder.')
    tried = 'images/s by batch ' + ', '.join(f'{t.batch}: {t.rate:.0f}' for t in trials)
    fitting, rule = trials, ''
    if limit is not None:
        seconds = limit.count_seconds_left()
        fitting = [t for t in trials if seconds / t.seconds >= LEAST_STEPS_IF_GIVEN] or trials[:1]
        if len(fitting) < len(trials):
            rule = f'larger batches would leave too few steps in --minutes {limit.minutes:g}: '
    fastest = max(t.rate for t in fitting)
    chosen = next(t for t in fitting if t.rate * GAIN >= fastest)
    if not rule and chosen is trials[-1] and 2 * chosen.batch > largest:
        rule = 'larger batches would leave too few steps: '
    return chosen, Knob(chosen.batch, (rule or 'the fastest, or a smaller one that is nearly as fast: ') + tried)


def plan_length(images: int, speed: Speed, epochs: int | None, has_weights: bool) -> dict[str, Knob]:
    """Choose how often each image is seen, and when to save, validate and draw.

    Args:
        images: Images that are trained on.
        speed: How fast the device trains.
        epochs: Passes over the images that the user wants.
        has_weights: Whether the encoder begins with weights.

    Returns:
        The settings, with ``wait_steps`` where the encoder begins with weights and the training is so short.
    """
    batch = speed.step.batch
    passes = _choose_epochs(images, speed, epochs, has_weights)
    steps = passes.value * images // batch
    if steps < LEAST_STEPS_OF_EPOCHS:
        needed = -(-LEAST_STEPS_OF_EPOCHS * batch // images)
        raise UserError(
            f'{format_count(passes.value, "epoch")} of {format_count(images, "image")} are '
            f'{format_count(steps, "step")} of {batch} images, too few to train: give {needed} or more epochs.'
        )
    repeat = _choose_repeat(images, batch, steps, passes.value)
    epochs_of_log = LoggedEpochs(images, batch, steps, repeat, max(1, passes.value // repeat))
    passes = Knob(epochs_of_log.count * repeat, passes.reason)
    return {'epochs': passes} | _plan_epochs(epochs_of_log, speed.seconds, has_weights)


def plan_minutes(images: int, batch: int, limit: TimeLimit, costs: Costs, has_weights: bool) -> dict[str, Knob]:
    """Choose the steps that fit into what is left of the minutes, and when to save, validate and draw.

    Args:
        images: Images that are trained on.
        batch: Images per step.
        limit: The minutes.
        costs: What was measured.
        has_weights: Whether the encoder begins with weights.

    Returns:
        The settings, as :func:`plan_length` gives them, with ``minutes`` and ``steps``.
    """
    seconds = limit.count_seconds_left() - costs.fixed
    steps, validations = fit_steps(seconds, costs.step, costs.validation, SAVED, VALIDATION_SHARE)
    repeat = _choose_repeat(images, batch, steps, steps * batch // images)
    epochs = LoggedEpochs(images, batch, steps, repeat, ceil(steps / ceil(repeat * images / batch)))
    fit = 'the fewest, as no more fit' if steps == FEWEST_STEPS else 'as many as fit into the rest of them'
    reason = f'--minutes {limit.minutes:g}: {fit}; a step takes {_format_seconds(costs.step)}'
    passes = Knob(
        epochs.count * repeat, f'{steps * batch / images:.3g} in fact: training stops partway through the last'
    )
    plan = _plan_epochs(epochs, costs.step, has_weights, validations)
    return {'minutes': note_minutes(limit.minutes), 'steps': Knob(steps, reason), 'epochs': passes} | plan


def choose_rate(recipe: float, batch: int, steps: int) -> Knob | None:
    """Choose a higher learning rate for a short training from scratch; None for one that is long enough for its recipe.

    A recipe is for hundreds of thousands of steps, and its rate is lowered for small batches. In a few hundred steps at
    that rate, weights hardly move from where they began, and a model learns little more than the mean color of what is
    hidden; the warm-up and the clipped gradients make a higher rate safe for so short a time. The longer the training,
    the nearer to the recipe.

    To compare rates on your images, train once for each, and read the verdicts that the runs end with::

        mae-toolkit pretrain photos --encoder convnextv2_atto --epochs 10 --out runs/low --cfg-options base_lr=6e-4
        mae-toolkit pretrain photos --encoder convnextv2_atto --epochs 10 --out runs/high --cfg-options base_lr=3e-3

    Args:
        recipe: ``base_lr`` of the template, for 256 images per step; it goes with the root of the batch size.
        batch: Images per step.
        steps: Steps of the training.
    """
    share = (batch / RATE_BATCH) ** 0.5
    rate = SHORT_RATE * min(1.0, SHORT_STEPS / steps)
    if rate <= recipe * share:
        return None
    times = rate / (recipe * share)
    return Knob(
        float(f'{rate / share:.2g}'),
        f'{format_count(steps, "step")} are few: {times:.2g} times the rate of the published recipe, {rate:.1e} here',
    )


def _choose_repeat(images: int, batch: int, steps: int, passes: int) -> int:
    """Choose how many passes over the images the log calls an epoch."""
    in_log = max(1, min(EPOCHS_OF_LOG, steps // EPOCH_STEPS[0]))
    return max(1, min(passes // in_log, ceil(EPOCH_STEPS[1] * batch / images)))


def _plan_epochs(
    epochs: LoggedEpochs, seconds: float, has_weights: bool, validations: int | None = None
) -> dict[str, Knob]:
    """Choose when to save, validate and draw, for steps of so many ``seconds``."""
    count, length, steps = epochs.count, epochs.length, epochs.steps
    interval = max(1, count // SAVED) if validations is None else ceil(count / validations)
    saved = max(1, min(max(interval, count // SAVED), int(MOST_LOST / (length * seconds))))
    unit = f'of {format_count(count, "epoch")} of the log'
    wait = {}
    if has_weights and steps < WAIT_STEPS / MOST_WAITING:
        waiting = max(1, int(MOST_WAITING * steps))
        wait = {'wait_steps': Knob(waiting, f'of {steps} steps, in which the decoder trains alone')}
    verb = 'is' if length == 1 else 'are'
    return wait | {
        'repeat': Knob(epochs.repeat, f'{format_count(length, "step")} {verb} an epoch of the log'),
        'save_every': Knob(saved, unit),
        'validate_every': Knob(interval, unit),
        'draw_every': Knob(interval, unit),
    }


def _count_usual_passes(images: int, has_weights: bool) -> int:
    """Return how often each image is seen if nobody says how often."""
    if has_weights:
        return max(1, round(CONTINUED_SAMPLES / images))
    return round(min(PASSES[1], max(PASSES[0], MANY_SAMPLES / images)))


def _choose_epochs(images: int, speed: Speed, epochs: int | None, has_weights: bool) -> Knob:
    batch = speed.step.batch
    if epochs is not None:
        return Knob(epochs, f'--epochs; about {_format_time(epochs * images / batch * speed.seconds)} on this device')
    usual = _count_usual_passes(images, has_weights)
    least = -(-LEAST_STEPS[has_weights] * batch // images)
    passes = max(usual, least)
    time = _format_time(passes * images / batch * speed.seconds)
    why = f'few images: {LEAST_STEPS[has_weights]:,} steps' if least > usual else f'{passes * images // batch:,} steps'
    return Knob(passes, f'{why}, about {time} on this device; --minutes shortens it')


def _format_seconds(seconds: float) -> str:
    return f'{1000 * seconds:.0f} ms' if seconds < 1 else f'{seconds:.1f} s'


def _format_time(seconds: float) -> str:
    """Write a duration roughly: ``'40 minutes'``, ``'5 hours'``, ``'3 days'``."""
    for length, noun in ((86400, 'day'), (3600, 'hour'), (60, 'minute')):
        if seconds >= 1.5 * length:
            return format_count(round(seconds / length), noun)
    return format_count(max(1, round(seconds)), 'second')
