"""Choose batch size, length and learning rate of a fine-tuning, with a reason for each."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from mae_toolkit.config.knobs import Knob
from mae_toolkit.engine.minutes import TimedLength
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice

FEWEST, MOST = 12, 100  # epochs
VIEWS = 8000  # images that are seen in all, if the epochs allow it
VALIDATIONS, VALIDATION_SHARE = 10, 0.25  # of the time, if it is given in minutes
UNIT = 32  # pixels of which sides are multiples, as the coarsest stride of most encoders


@dataclass(frozen=True)
class Length:
    """What a user says about the length of training; at most one of the first three.

    Attributes:
        steps: Steps.
        epochs: Passes over the images.
        minutes: Wall time.
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


def fit_length(timed: TimedLength, counts_steps: bool) -> dict[str, Knob]:
    """Choose steps or epochs that fit into minutes, with fewer validations where those would take most of the time.

    Args:
        timed: How long steps and validations take.
        counts_steps: Whether the template counts steps; else epochs.
    """
    seconds = 60 * timed.minutes
    most = VALIDATION_SHARE * seconds / max(timed.seconds_per_validation, 1e-9)
    count = int(min(VALIDATIONS, max(2, most)))
    steps = max(4, int((seconds - count * timed.seconds_per_validation) / timed.seconds_per_step))
    reason = f'--minutes {timed.minutes:g}: a step takes {timed.seconds_per_step:.2g} s'
    slow = ' so that they take no more than a quarter of the time' if count < VALIDATIONS else ''
    knobs = {'validations': Knob(count, f'of {timed.seconds_per_validation:.2g} s each{"," * bool(slow)}{slow}')}
    if counts_steps:
        return {'steps': Knob(steps, reason)} | knobs
    return {'epochs': Knob(max(2, steps // timed.iterations_per_epoch), reason)} | knobs


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
    if length.steps is not None:
        return Knob(length.steps, f'given; {length.steps * batch / images:.3g} epochs of {images} images')
    if length.epochs is not None:
        return Knob(max(1, ceil(length.epochs * images / batch)), f'{length.epochs:g} epochs of {images} images, given')
    epochs = min(MOST, max(FEWEST, VIEWS / images))
    few = f': few images, so many epochs, at most {MOST}' if epochs > 2 * FEWEST else ''
    return Knob(ceil(epochs * images / batch), f'{epochs:.0f} epochs of {images} images{few}')


def _choose_rates(encoder: EncoderChoice) -> dict[str, Knob]:
    """Choose learning rate and layer decay by the family and by whether there are weights to keep."""
    if encoder.weights is None:
        return {
            'lr': Knob(1e-3, 'from random weights, which have nothing to lose'),
            'layer_decay': Knob(1.0, 'the same learning rate for all blocks, as none is pretrained'),
        }
    lower = 'of the learning rate, from block to block: early ones need the least change'
    if encoder.is_convolutional:
        return {'lr': Knob(5e-4, 'half of that from random weights'), 'layer_decay': Knob(0.9, lower)}
    why = 'transformers lose at higher rates what they were pretrained for'
    return {'lr': Knob(3e-4, why), 'layer_decay': Knob(0.8, lower)}
