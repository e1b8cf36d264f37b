"""Choose the numbers of a classifier from its images, its encoder and the device, with a reason for each."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil
from pathlib import Path

import numpy as np

from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.image_headers import read_image_headers
from mae_toolkit.datasets.labels.classes import ClassLabels
from mae_toolkit.errors import UserError
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice
from mae_toolkit.planning.finetuning import Length, plan_training, round_side

SMALLEST, LIMITS = 64, {'cpu': 128, 'cuda': 224}  # pixels of a side
BATCHES = (32, 128)
MEASURED = 1000  # images whose sizes are read


def plan_classifier(
    labels: ClassLabels, encoder: EncoderChoice, device: Device, length: Length, size: int | None = None
) -> dict[str, Knob]:
    """Choose the settings of ``custom_classifier.py``.

    Args:
        labels: The labels, split.
        encoder: The encoder.
        device: What it is trained on.
        length: What the user said about the length of training.
        size: Pixels of a side, if the user says so.
    """
    train = labels.splits['train']
    knobs = {'size': _choose_size([path for path, _ in train], device, size)}
    planned = plan_training(len(train), encoder, device, length, BATCHES)
    steps = planned.pop('steps')
    epochs = max(2, ceil(steps.value / max(1, len(train) // planned['batch_size'].value)))
    return knobs | planned | {'epochs': Knob(epochs, steps.reason)}


def _choose_size(paths: Sequence[Path], device: Device, size: int | None) -> Knob:
    what, most = 'pixels of a side', LIMITS[device.type]
    if size is not None:
        return Knob(size, f'{what}, given')
    headers = read_image_headers(paths[:: max(1, len(paths) // MEASURED)])
    sides = [min(header.size) for header in headers if header.size]
    if not sides:
        raise UserError(f'None of the images can be read, such as {paths[0]}: {headers[0].reason}.')
    median = int(np.median(sides))
    if median > most:
        return Knob(most, f'{what}: images have {median}, more would be slow on {device.name}')
    return Knob(max(SMALLEST, round_side(median)), f'{what}: the median of the shorter sides is {median}')
