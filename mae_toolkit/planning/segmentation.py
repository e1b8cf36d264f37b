"""Choose the numbers of a segmenter from its masks, its encoder and the device, with a reason for each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np

from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.labels.masks import MaskLabels
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice
from mae_toolkit.planning.finetuning import Length, choose_side, plan_training, round_side, shrink_side
from mae_toolkit.printing import printable

LIMITS = {'cpu': (384, 256), 'cuda': (1024, 512)}  # of the longer side, and of a crop
BATCHES = (4, 8)
LEAST_CROP = 96  # pixels of a side
LEAST_SHARE = 1e-3  # of the pixels, to which smaller shares are raised, so that no weight is extreme


def plan_segmenter(
    labels: MaskLabels, encoder: EncoderChoice, device: Device, length: Length, size: int | None = None
) -> dict[str, Knob]:
    """Choose the settings of ``custom_upernet.py``.

    Args:
        labels: The labels, split.
        encoder: The encoder.
        device: What it is trained on.
        length: What the user said about the length of training.
        size: Pixels of the longer side, if the user says so.
    """
    train = labels.splits['train']
    longer = int(np.median([max(labels.sizes[pair.mask]) for pair in train]))
    usual, most_crop = LIMITS[device.type]
    knobs = {'size': choose_side('pixels of the longer side', longer, usual, device, size)}
    crop = min(round_side(knobs['size'].value), most_crop)
    knobs['crop'] = Knob(crop, f'pixels of a side in training; at most {most_crop} on {device.name}')
    if device.is_gpu:
        knobs['head'] = Knob('UPerHead', 'reads all levels at several scales')
        knobs['width'] = Knob(256, 'channels of the head')
    else:
        knobs['head'] = Knob('FCNHead', f'one convolution over all levels, as UPerHead is slow on {device.name}')
        knobs['width'] = Knob(64, f'channels of the head, few on {device.name}')
    knobs['class_weights'] = _choose_class_weights(labels)
    return knobs | plan_training(len(train), encoder, device, length, BATCHES)


def _choose_class_weights(labels: MaskLabels) -> Knob:
    """Choose weights of the loss by class, so that a segmenter does not begin with background everywhere.

    Weights go with the root of the inverse share of pixels; weighted by these shares, their mean is 1.
    """
    total = sum((Counter(labels.pixels[pair.mask]) for pair in labels.splits['train']), Counter())
    pixels = np.array([total[value] for value in labels.values], float)
    shares = np.maximum(pixels / pixels.sum(), LEAST_SHARE)
    weights = shares**-0.5 / (shares**0.5).sum()
    rarest = int(pixels.argmin())
    why = f'{printable(labels.classes[rarest])} has {100 * pixels[rarest] / pixels.sum():.2g}% of the pixels'
    return Knob([round(float(weight), 3) for weight in weights], f'of the loss, by class: {why}')


def shrink_crop(knobs: Mapping[str, Knob], share: float) -> dict[str, Knob]:
    """Choose smaller crops, so that a step takes a share of its time; images keep their size.

    Args:
        knobs: What was chosen and may be changed.
        share: Share of the time that a step may take.
    """
    crop = shrink_side(knobs.get('crop'), share, LEAST_CROP)
    return {'crop': crop} if crop else {}
