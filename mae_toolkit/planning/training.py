"""Choose batch size, length and learning rate of a fine-tuning, with a reason for each."""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil

from mae_toolkit.config.knobs import Knob
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import CONVOLUTIONAL, EncoderChoice

FEWEST, MOST = 12, 100  # epochs
VIEWS = 8000  # images that are seen in all, if the epochs allow it


@dataclass(frozen=True)
class Length:
    """What a user says about the length of training; at most one of the first two.

    Attributes:
        steps: Steps.
        epochs: Passes over the images.
        patience: Validations in a row without a better result after which it stops; None to train to the end.
    """

    steps: int | None = None
    epochs: float | None = None
    patience: int | None = None


def plan_training(
    images: int, held_out: int, encoder: EncoderChoice, device: Device, length: Length, size: int, dense: bool
) -> dict[str, Knob]:
    """Choose the settings of training that all templates have.

    Args:
        images: Number of images of training.
        held_out: Number of images of validation.
        encoder: The encoder.
        device: What it is trained on.
        length: What the user said.
        size: Pixels of the longer side.
        dense: Whether the model is a detector or segmenter, which take more memory than a classifier.
    """
    batch = _choose_batch(images, device, size, dense)
    knobs = {'batch_size': batch, 'steps': _choose_steps(images, batch.value, length)}
    workers = max(0, min(device.cores - 1, 8 if device.type == 'cuda' else 2))
    knobs['workers'] = Knob(workers, f'processes that load images, of {device.cores} cores')
    if length.patience is not None:
        knobs['patience'] = Knob(length.patience, 'validations in a row without a better result, then it stops; given')
    return knobs | _choose_rates(encoder)


def _choose_batch(images: int, device: Device, size: int, dense: bool) -> Knob:
    if device.type == 'cpu':
        batch, why = (4 if dense else 32), 'small steps, as a CPU is slow'
    else:
        each = (3.0 if dense else 0.15) * (size / 512) ** 2  # GB of an image, in an encoder of usual size
        fits = device.memory / 2**30 / each
        batch = int(min(16 if dense else 128, max(2, fits)))
        why = f'{device.memory / 2**30:.0f} GB of memory'
    if batch > images:
        batch, why = images, 'all images'
    return Knob(batch, f'images per step: {why}')


def _choose_steps(images: int, batch: int, length: Length) -> Knob:
    if length.steps is not None:
        return Knob(length.steps, f'given; {length.steps * batch / images:.0f} epochs of {images} images')
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
    if encoder.family in CONVOLUTIONAL:
        return {
            'lr': Knob(5e-4, 'half of that from random weights'),
            'layer_decay': Knob(0.9, 'of the learning rate, from block to block: early ones need the least change'),
        }
    return {
        'lr': Knob(3e-4, 'transformers lose what they were pretrained for at higher rates'),
        'layer_decay': Knob(0.8, 'of the learning rate, from block to block: early ones need the least change'),
    }
