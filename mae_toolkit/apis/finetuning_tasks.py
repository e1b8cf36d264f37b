"""What each task of fine-tuning does with labels: reads them, writes them as they are used, and plans the config."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.labels.find import prepare_boxes, write_coco
from mae_toolkit.downstream import fit_encoder
from mae_toolkit.planning.detection import plan_detector
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice
from mae_toolkit.planning.templates import find_config
from mae_toolkit.planning.training import Length
from mae_toolkit.printing import some


@dataclass(frozen=True)
class Wishes:
    """What a user asks for, beside encoder and options.

    Attributes:
        data: The labels.
        images: Folder of the images; None if it is near the labels.
        size: Pixels of an image; None to choose.
        length: Length of training.
        seed: Seed of the split and of the training.
    """

    data: Path
    images: Path | None
    size: int | None
    length: Length
    seed: int


@dataclass(frozen=True)
class Plan:
    """A template and what is to be set in it.

    Attributes:
        template: The config of the toolkit.
        knobs: Settings with their reasons.
        fit: Puts the encoder into the config.
        notes: What was found in the labels, for the user.
    """

    template: Path
    knobs: dict[str, Knob]
    fit: Callable[[Config], Config]
    notes: list[str]


def plan_detection(wishes: Wishes, encoder: EncoderChoice, device: Device, folder: Path) -> Plan:
    """Read boxes in any format, write them as COCO files, and plan a Faster R-CNN, or a Mask R-CNN of outlines.

    Args:
        wishes: What the user asks for.
        encoder: The encoder.
        device: What it is trained on.
        folder: Where the labels are written.
    """
    labels = prepare_boxes(wishes.data, wishes.images, wishes.seed)
    root = write_coco(labels, folder)
    counts = ', '.join(f'{len(images)} {split}' for split, images in labels.splits.items())
    objects = sum(len(image.objects) for image in labels.images)
    classes = f'{len(labels.classes)} classes ({some(labels.classes)})'
    found = f'{labels.format}: {counts} images, {objects} objects of {classes}'
    knobs = {
        'weights': Knob(encoder.weights, 'given' if encoder.weights else 'from scratch: --from begins with weights'),
        'images': Knob(str(root), 'folder to which the file names in the labels are relative'),
        'labels': Knob(str(folder.resolve()), f'made of {wishes.data}, which was in the format {labels.format}'),
        'test_split': _choose_test_split('test' in labels.splits),
        'classes': Knob(labels.classes, 'in the order of the labels'),
    }
    knobs |= plan_detector(labels, encoder, device, wishes.length, wishes.size)
    knobs['seed'] = Knob(wishes.seed)
    notes = [found, *labels.notes]
    return Plan(find_config('detection/custom_faster-rcnn.py'), knobs, make_fit(encoder), notes)


def _choose_test_split(has_test: bool) -> Knob:
    if has_test:
        return Knob('test', 'images that neither training nor the choice of the checkpoint sees')
    return Knob('val', 'too few images for a test split: the test is on those that chose the checkpoint')


def make_fit(encoder: EncoderChoice) -> Callable[[Config], Config]:
    """Make the function that puts an encoder, and what its images were normalized by, into a config.

    Args:
        encoder: The encoder.
    """

    def fit(cfg: Config) -> Config:
        config = dict(encoder.config)
        if encoder.family == 'SparseCNN' and encoder.weights is not None:
            config['norm_eval'] = True  # statistics of small batches are worse than those of the pretraining
        cfg = fit_encoder(cfg, config, encoder.weights)
        cfg.model.data_preprocessor.update(encoder.normalization)
        return cfg

    return fit


TASKS: dict[str, Callable[[Wishes, EncoderChoice, Device, Path], Plan]] = {'detect': plan_detection}
