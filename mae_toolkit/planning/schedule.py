"""Settings of the length of a pretraining: batch size, epochs, learning rate, and when to save and validate."""

from __future__ import annotations

from dataclasses import dataclass

from mae_toolkit.config.knobs import Knob
from mae_toolkit.errors import UserError
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.trials import StepTrial
from mae_toolkit.printing import format_count

PASSES = (100, 400)  # over many images, and over few, in a training from scratch
MANY_SAMPLES = 40_000_000  # crops of a long training: with more images than a hundred-thousand, fewer passes
LEAST_STEPS = {False: 5000, True: 500}  # of a training from scratch, and of one that begins with weights
SHARE_WITH_WEIGHTS = 0.25  # of the passes from scratch
EPOCH_STEPS = (10, 50)  # that the log calls an epoch, at least: in the shortest training, and if it is long
EPOCHS_OF_LOG = 40  # that a training has at least, if it is long
SAVED = 10  # validations of a training, and checkpoints at least
MOST_LOST = 600.0  # seconds of training between two checkpoints, if an epoch of the log is not longer
MINUTES_SHARE = 0.9  # of the minutes is for steps, the rest for validation and checkpoints
WAIT_STEPS, MOST_WAITING = 30, 0.25  # in which the encoder waits in configs/continue, and share of a training
LEAST_STEPS_OF_EPOCHS = 2  # one to warm up, and one to train
LEAST_STEPS_OF_MINUTES = 300  # for which a smaller batch is taken


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


def choose_batch(trials: list[StepTrial], images: int, device: Device, minutes: float | None) -> tuple[StepTrial, Knob]:
    """Choose among the batch sizes that were tried.

    Args:
        trials: What was tried, from the smallest to the largest.
        images: Images in an epoch.
        device: What trains.
        minutes: Minutes that the training may take, or None.

    Raises:
        UserError: If not even the smallest batch could be computed.
    """
    if not trials:
        raise UserError(f'{device.name} has too little memory for the smallest batch: use a smaller --size or encoder.')
    largest, tried = trials[-1], ', '.join(f'{t.batch}: {t.rate:.0f}' for t in trials)
    if minutes is not None:
        fitting = [t for t in trials if MINUTES_SHARE * 60 * minutes / t.seconds >= LEAST_STEPS_OF_MINUTES]
        chosen = fitting[-1] if fitting else trials[0]
        if chosen is not largest:
            return chosen, Knob(
                chosen.batch, f'so that --minutes {minutes:g} has enough steps; images/s by batch {tried}'
            )
    return largest, Knob(largest.batch, f'tried: images/s by batch {tried}')


def plan_length(
    images: int, speed: Speed, epochs: int | None, minutes: float | None, has_weights: bool
) -> dict[str, Knob]:
    """Choose how often each image is seen, and when to save, validate and draw.

    Args:
        images: Images that are trained on.
        speed: How fast the device trains.
        epochs: Passes over the images that the user wants.
        minutes: Minutes that the user wants.
        has_weights: Whether the encoder begins with weights.

    Returns:
        The settings, with ``wait_steps`` where the encoder begins with weights and the training is so short.
    """
    batch = speed.step.batch
    passes = _choose_epochs(images, speed, epochs, minutes, has_weights)
    steps = passes.value * images // batch
    if steps < LEAST_STEPS_OF_EPOCHS:
        needed = -(-LEAST_STEPS_OF_EPOCHS * batch // images)
        raise UserError(
            f'{format_count(passes.value, "epoch")} of {format_count(images, "image")} are '
            f'{format_count(steps, "step")} of {batch} images, too few to train: give {needed} or more epochs.'
        )
    in_log = max(1, min(EPOCHS_OF_LOG, steps // EPOCH_STEPS[0]))
    repeat = max(1, min(passes.value // in_log, -(-EPOCH_STEPS[1] * batch // images)))
    max_epochs = max(1, passes.value // repeat)
    passes = Knob(max_epochs * repeat, passes.reason)
    interval = max(1, max_epochs // SAVED)
    seconds = repeat * images / batch * speed.seconds  # of an epoch of the log
    saved = max(1, min(interval, int(MOST_LOST / seconds)))
    short = has_weights and steps < WAIT_STEPS / MOST_WAITING
    wait = (
        {'wait_steps': Knob(max(1, int(MOST_WAITING * steps)), f'the decoder alone, of {steps} steps')} if short else {}
    )
    return wait | {
        'epochs': passes,
        'repeat': Knob(repeat, f'{format_count(max(1, repeat * images // batch), "step")} are an epoch of the log'),
        'save_every': Knob(saved, f'of {max_epochs:,} epochs of the log'),
        'validate_every': Knob(interval, f'of {max_epochs:,} epochs of the log'),
        'draw_every': Knob(interval, f'of {max_epochs:,} epochs of the log'),
    }


def _choose_epochs(images: int, speed: Speed, epochs: int | None, minutes: float | None, has_weights: bool) -> Knob:
    batch = speed.step.batch
    if minutes is not None:
        steps = int(MINUTES_SHARE * 60 * minutes / speed.seconds)
        passes = max(1, steps * batch // images)
        return Knob(passes, f'--minutes {minutes:g}: about {steps:,} steps of {_format_seconds(speed.seconds)}')
    if epochs is not None:
        return Knob(epochs, f'--epochs; about {_format_time(epochs * images / batch * speed.seconds)} on this device')
    usual = round(min(PASSES[1], max(PASSES[0], MANY_SAMPLES / images)) * (SHARE_WITH_WEIGHTS if has_weights else 1))
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
