"""Choose the numbers of a detector from its labels, its encoder and the device, with a reason for each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.labels.boxes import BoxLabels, LabeledImage
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice
from mae_toolkit.planning.finetuning import Length, choose_side, plan_training, round_side, shrink_side

SMALLEST = 10.0  # pixels of a side below which objects are hardly found
BATCHES = (4, 8)
LIMITS = {'cpu': (416, 640), 'cuda': (1024, 1536)}  # of the longer side, and where objects would be too small
LEAST_SIZE, LEAST_BATCH = 160, 2
SCALES = (8, 4, 2)  # octave_base_scale: sizes of the finest anchors in units of their stride, 4 pixels


@dataclass(frozen=True)
class BoxFacts:
    """What the labels of training say about sizes.

    Attributes:
        longer: Median longer side of an image.
        small: Side (root of the area) than which a tenth of the objects is smaller, in pixels of the files.
        median: Median side of an object.
        most: Most objects in one image.
        images: Number of images of training.
    """

    longer: int
    small: float
    median: float
    most: int
    images: int


def measure_boxes(labels: BoxLabels) -> BoxFacts:
    """Measure images and objects.

    Args:
        labels: The labels, split.
    """
    train = labels.splits['train']
    sides = _sides(train)
    return BoxFacts(
        longer=int(np.median([max(image.size) for image in train])),
        small=float(np.quantile(sides, 0.1)),
        median=float(np.median(sides)),
        most=max(len(image.objects) for image in labels.images),
        images=len(train),
    )


def _sides(images: Sequence[LabeledImage]) -> np.ndarray:
    boxes = np.array([item['bbox'][2:] for image in images for item in image.objects], float).reshape(-1, 2)
    return np.sqrt(np.maximum(boxes, 0).prod(1))


def plan_detector(
    labels: BoxLabels, encoder: EncoderChoice, device: Device, length: Length, size: int | None = None
) -> dict[str, Knob]:
    """Choose the settings of ``custom_faster-rcnn.py``.

    Args:
        labels: The labels, split.
        encoder: The encoder.
        device: What it is trained on.
        length: What the user said about the length of training.
        size: Pixels of the longer side, if the user says so.
    """
    facts = measure_boxes(labels)
    knobs = {'size': _choose_size(facts, device, size)}
    scale = knobs['size'].value / facts.longer
    knobs['masks'] = Knob(labels.has_masks, 'all objects have outlines' if labels.has_masks else 'objects are boxes')
    knobs['anchor_scale'] = _choose_anchors(facts, scale)
    knobs['max_objects'] = Knob(
        max(100, round(1.5 * facts.most)), f'found in one image, at most; {facts.most} are the most that are labeled'
    )
    small = not device.is_gpu
    usual = 'few' if small else 'the usual number'
    knobs['width'] = Knob(64 if small else 256, f'channels of pyramid and heads, {usual} on {device.name}')
    most = knobs['max_objects'].value
    knobs['proposals'] = Knob(
        max(2 * most, 300 if small else 1000), 'regions of an image that the second stage looks at, more than objects'
    )
    return knobs | plan_training(facts.images, encoder, device, length, BATCHES)


def _choose_size(facts: BoxFacts, device: Device, size: int | None) -> Knob:
    what = 'pixels of the longer side'
    usual, most = LIMITS[device.type]
    if size is not None or facts.small * min(1.0, usual / facts.longer) >= SMALLEST:
        return choose_side(what, facts.longer, usual, device, size)
    enough = round(facts.longer * SMALLEST / max(facts.small, 1.0))
    chosen = min(most, max(min(facts.longer, usual), min(enough, 2 * facts.longer)))
    why = f'a tenth of the objects is smaller than {facts.small:.0f} pixels in images of {facts.longer}'
    return Knob(round_side(chosen), f'{what}: {why}')


def _choose_anchors(facts: BoxFacts, scale: float) -> Knob:
    """Choose the finest anchors: 8, 4 or 2 times the stride of 4, not much larger than a small object."""
    small = facts.small * scale
    chosen = next((anchor for anchor in SCALES if 4 * anchor <= 1.5 * small), SCALES[-1])
    return Knob(chosen, f'finest anchors, of {4 * chosen} pixels: a tenth of the objects is smaller than {small:.0f}')


def shrink_images(knobs: Mapping[str, Knob], share: float) -> dict[str, Knob]:
    """Choose fewer images per step, and smaller ones, so that a step takes a share of its time.

    Args:
        knobs: What was chosen and may be changed.
        share: Share of the time that a step may take.
    """
    smaller = {}
    batch = knobs['batch_size'].value if 'batch_size' in knobs else 0
    if batch > LEAST_BATCH:
        smaller['batch_size'] = Knob(LEAST_BATCH, f'images per step, instead of {batch}, so that there are more steps')
        share *= batch / LEAST_BATCH
    size = shrink_side(knobs.get('size'), share, LEAST_SIZE) if share < 1 else None
    if size is None:
        return smaller
    smaller['size'] = size
    if 'anchor_scale' not in knobs:
        return smaller
    most = knobs['anchor_scale'].value * size.value / knobs['size'].value
    anchor = next((scale for scale in SCALES if scale <= most), SCALES[-1])
    why = f'finest anchors, of {4 * anchor} pixels, as small as the images have become'
    return smaller | {'anchor_scale': Knob(anchor, why)}
