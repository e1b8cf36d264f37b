"""Choose batch size, length and learning rate of a fine-tuning, with a reason for each."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from mae_toolkit.config.knobs import Knob
from mae_toolkit.engine.minutes import TimedLength
from mae_toolkit.errors import UserError
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice
from mae_toolkit.planning.minutes import fit_steps, note_minutes
from mae_toolkit.printing import format_count

FEWEST, MOST = 12, 100  # epochs
LEAST_EPOCHS = 2  # one to warm up, and one to train
VIEWS = 8000  # images that are seen in all, if the epochs allow it
VALIDATIONS, VALIDATION_SHARE = 10, 0.25  # of the time, if it is given in minutes
ENOUGH_STEPS = 300  # if fewer fit into the minutes, each step is made cheaper
HEAD_RATE = 1e-3  # learning rate of the head, which begins with random weights
UNIT = 32  # pixels of which sides are multiples, as the coarsest stride of most encoders


@dataclass(frozen=True)
class Length:
    """What a user says about the length of training; at most one of the first three.

    Attributes:
        steps: Steps.
        epochs: Passes over the images.
        minutes: Wall time of the whole command.
        patience: Validations in a row without a better result after which it stops; None to train to the end.
    """

    steps: int | None = None
    epochs: float | None = None
    minutes: float | None = None
    patience: int | None = None


def plan_training(
    images: int, encoder: EncoderChoice, device: Device, length: Length, batches: tuple[int, int]
) -> dict[str, Knob]:
    """Choose the settings of training that all templates have.

    Args:
        images: Number of images of training.
        encoder: The encoder.
        device: What it is trained on.
        length: What the user said.
        batches: Images per step on a CPU and on a GPU.
    """
    batch = _choose_batch(images, device, batches)
    knobs = {'batch_size': batch, 'steps': _choose_steps(images, batch.value, length)}
    workers = max(0, min(device.cores - 1, 8 if device.is_gpu else 2))
    knobs['workers'] = Knob(workers, f'processes that load images, on {device.cores} cores')
    if length.patience is not None:
        knobs['patience'] = Knob(length.patience, 'validations in a row without a better result, then it stops; given')
    return knobs | _choose_rates(encoder)


def choose_epochs(images: int, batch: int, length: Length) -> Knob:
    """Choose the epochs of a template that counts them instead of steps.

    Args:
        images: Number of images of training.
        batch: Images per step; an epoch leaves out those that fill no batch.
        length: What the user said.

    Raises:
        UserError: If the user gives a part of an epoch.
    """
    found = format_count(images, 'image')
    if length.epochs is not None:
        if length.epochs != int(length.epochs):
            part = f', with --cfg-options label_fraction={length.epochs:g} for a part of the images'
            raise UserError(
                f'--epochs {length.epochs:g}: a classifier is trained for whole epochs of its {found}; give '
                f'{max(1, round(length.epochs))}{part if length.epochs < 1 else ""}.'
            )
        return Knob(int(length.epochs), f'of {found}, given')
    if length.steps is not None:
        per_epoch = max(1, images // batch)
        return Knob(ceil(length.steps / per_epoch), f'of {per_epoch:,} steps each: --steps {length.steps}, rounded up')
    epochs, few = _choose_usual_epochs(images)
    return Knob(round(epochs), f'of {found}{few}')


def fit_length(
    timed: TimedLength, seconds: float, minutes: float, counts_steps: bool, validations: int | None = None
) -> dict[str, Knob]:
    """Choose steps or epochs that fit into some seconds, with fewer validations where those would take much of them.

    Args:
        timed: How long steps and validations take.
        seconds: Time for the training itself.
        minutes: Minutes that the user gave for the whole command.
        counts_steps: Whether the template counts steps; else epochs.
        validations: How many validations the user wants, whatever their share of the time; None to choose.
    """
    most, share = (VALIDATIONS, VALIDATION_SHARE) if validations is None else (validations, 1.0)
    steps, count = fit_steps(seconds, timed.seconds_per_step, timed.seconds_per_validation, most, share)
    reason = f'--minutes {minutes:g}, {seconds:.0f} s of them to train: a step takes {timed.seconds_per_step:.2g} s'
    slow = ', so that they take no more than a quarter of the time' if count < VALIDATIONS else ''
    knobs = {
        'minutes': note_minutes(minutes),
        'validations': Knob(count, f'of {timed.seconds_per_validation:.2g} s each{slow}'),
    }
    if counts_steps:
        return {'steps': Knob(steps, reason)} | knobs
    epochs = steps // timed.iterations_per_epoch
    if epochs < LEAST_EPOCHS:  # each of a part of the images, so that the minutes are kept
        part = max(1, steps // LEAST_EPOCHS) / timed.iterations_per_epoch
        why = f'of the training images: {LEAST_EPOCHS} epochs of all would take longer than --minutes'
        knobs['label_fraction'] = Knob(ceil(1000 * part) / 1000, why)
    return {'epochs': Knob(max(LEAST_EPOCHS, epochs), reason)} | knobs


def choose_side(what: str, median: int, most: int, device: Device, given: int | None, least: int = UNIT) -> Knob:
    """Choose how many pixels a side of the images has: as given, or as the images have, if the device is fast enough.

    Args:
        what: Which side it is.
        median: Median of the images.
        most: What is not too slow for the device.
        device: What it is trained on.
        given: What the user says, or None.
        least: Fewest pixels.
    """
    if given is not None:
        return Knob(given, f'{what}, given')
    if median > most:
        return Knob(most, f'{what}: images have {median}, more would be slow on {device.name}')
    return Knob(max(least, round_side(median)), f'{what}: the median of your images, {median}')


def shrink_side(knob: Knob | None, share: float, least: int) -> Knob | None:
    """Choose a side whose square is a share of what it was, as the time of a step goes with the pixels.

    Args:
        knob: The side; None if it is not to be changed.
        share: Share of the time that a step may take.
        least: Fewest pixels.

    Returns:
        None if it stays as it is.
    """
    if knob is None:
        return None
    side = max(least, int(knob.value * share**0.5) // UNIT * UNIT)
    if side >= knob.value:
        return None
    return Knob(side, f'instead of {knob.value}, so that there is time for more steps')


def round_side(side: float) -> int:
    """Round pixels to a multiple of the coarsest stride, at least one of them.

    Args:
        side: Pixels.
    """
    return max(UNIT, round(side / UNIT) * UNIT)


def _choose_batch(images: int, device: Device, batches: tuple[int, int]) -> Knob:
    batch = batches[device.is_gpu]
    why = f'usual on {device.name}' if device.is_gpu else f'few, as steps are slow on {device.name}'
    return Knob(batch, f'images per step: {why}') if batch <= images else Knob(images, 'images per step: all of them')


def _choose_steps(images: int, batch: int, length: Length) -> Knob:
    found = format_count(images, 'image')
    if length.steps is not None:
        return Knob(
            length.steps, f'given; {format_count(float(f"{length.steps * batch / images:.3g}"), "epoch")} of {found}'
        )
    if length.epochs is not None:
        return Knob(
            max(1, ceil(length.epochs * images / batch)), f'{format_count(length.epochs, "epoch")} of {found}, given'
        )
    epochs, few = _choose_usual_epochs(images)
    return Knob(ceil(epochs * images / batch), f'{format_count(round(epochs), "epoch")} of {found}{few}')


def _choose_usual_epochs(images: int) -> tuple[float, str]:
    """Return the epochs without a word of the user, and what is to be said about many of them."""
    epochs = min(MOST, max(FEWEST, VIEWS / images))
    return epochs, f': few images, so many epochs, at most {MOST}' if epochs > 2 * FEWEST else ''


def _choose_rates(encoder: EncoderChoice) -> dict[str, Knob]:
    """Choose learning rates and layer decay by the family and by whether there are weights to keep."""
    rate = Knob(HEAD_RATE, 'of the head, which begins with random weights')
    if encoder.weights is None:
        return {
            'lr': rate,
            'encoder_lr': Knob(1.0, 'share of it for the encoder: random weights have nothing to lose'),
            'layer_decay': Knob(1.0, 'the same learning rate for all blocks, as none is pretrained'),
        }
    lower = 'of the learning rate, from block to block: early ones need the least change'
    if encoder.is_convolutional:
        share, decay, why = 0.5, 0.9, 'which has weights to keep'
    else:
        share, decay, why = 0.3, 0.8, 'as transformers lose at higher rates what they were pretrained for'
    return {
        'lr': rate,
        'encoder_lr': Knob(share, f'share of it for the encoder, {why}'),
        'layer_decay': Knob(decay, lower),
    }
