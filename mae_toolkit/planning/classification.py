"""Choose the numbers of a classifier from its images, its encoder and the device, with a reason for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.fingerprint import take_fingerprint
from mae_toolkit.datasets.image_headers import read_image_headers
from mae_toolkit.datasets.labels.classes import ClassLabels
from mae_toolkit.errors import UserError
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice
from mae_toolkit.planning.finetuning import Length, choose_epochs, choose_side, plan_training
from mae_toolkit.spread import spread_indices

SMALLEST, LIMITS = 64, {'cpu': 128, 'cuda': 224}  # pixels of a side
BATCHES = (32, 128)
LEAST_BATCH = 16
MEASURED = 1000  # images whose sizes are read
OPENED = 8  # images of which the type of numbers is read


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
    median = _measure_sides([path for path, _ in train])
    knobs = {'size': choose_side('pixels of a side', median, LIMITS[device.type], device, size, SMALLEST)}
    knobs |= _choose_augmentation([path for path, _ in train])
    planned = plan_training(len(train), encoder, device, length, BATCHES)
    del planned['steps']
    return knobs | planned | {'epochs': choose_epochs(len(train), planned['batch_size'].value, length)}


def _measure_sides(paths: Sequence[Path]) -> int:
    """Return the median of the shorter sides of images."""
    headers = read_image_headers([paths[place] for place in spread_indices(len(paths), MEASURED)])
    sides = [min(header.size) for header in headers if header.size]
    if not sides:
        raise UserError(f'None of the images can be read, such as {paths[0]}: {headers[0].reason}.')
    return int(np.median(sides))


def _choose_augmentation(paths: Sequence[Path]) -> dict[str, Knob]:
    """Leave out RandAugment where a few of the images are not of 8 bits."""
    found = take_fingerprint('', [str(paths[place]) for place in spread_indices(len(paths), OPENED)])
    others = [dtype for dtype in found.dtypes if dtype != 'uint8']
    return {'augmentation': Knob(None, f'images are {others[0]}, and RandAugment takes 8 bits')} if others else {}


def shrink_batch(knobs: Mapping[str, Knob], share: float) -> dict[str, Knob]:
    """Choose fewer images per step, so that a step takes a share of its time.

    Args:
        knobs: What was chosen and may be changed.
        share: Share of the time that a step may take.
    """
    batch = knobs['batch_size'].value if 'batch_size' in knobs else 0
    fewer = max(LEAST_BATCH, int(share * batch))
    if fewer >= batch:
        return {}
    return {'batch_size': Knob(fewer, f'images per step, instead of {batch}, so that there are more steps')}
