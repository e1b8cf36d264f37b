"""What each task of fine-tuning does with labels: reads them, writes them as they are used, and plans the config."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

from mmengine.config import Config

from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.labels.boxes import BoxLabels
from mae_toolkit.datasets.labels.classes import ClassLabels, count_classes, prepare_classes, write_lists
from mae_toolkit.datasets.labels.find import prepare_boxes, write_coco
from mae_toolkit.datasets.labels.mask_writer import write_masks
from mae_toolkit.datasets.labels.masks import MaskLabels, prepare_masks
from mae_toolkit.datasets.labels.splits import SPLITS
from mae_toolkit.downstream import fit_encoder
from mae_toolkit.planning.classification import plan_classifier, shrink_batch
from mae_toolkit.planning.detection import plan_detector, shrink_images
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice
from mae_toolkit.planning.finetuning import Length
from mae_toolkit.planning.segmentation import plan_segmenter, shrink_crop
from mae_toolkit.planning.templates import find_config
from mae_toolkit.printing import format_count, printable, some

Labels: TypeAlias = BoxLabels | MaskLabels | ClassLabels


@dataclass(frozen=True)
class Wishes:
    """What a user asks for, beside encoder and options.

    Attributes:
        data: The labels.
        images: Folder of the images; None if it is near the labels.
        size: Pixels of an image; None to choose.
        length: Length of training.
        seed: Seed of the split and of the training.
        ignore_index: Value of masks that does not count; None for the usual one.
    """

    data: Path
    images: Path | None
    size: int | None
    length: Length
    seed: int
    ignore_index: int | None = None


@dataclass(frozen=True)
class Plan:
    """A template and what is to be set in it.

    Attributes:
        template: The config of the toolkit.
        knobs: Settings with their reasons.
        fit: Puts the encoder into the config.
        notes: What was found in the labels, for the user.
        counts: Number of images of each split.
        shrink: Returns settings by which a step takes a share of its time, or none.
    """

    template: Path
    knobs: dict[str, Knob]
    fit: Callable[[Config], Config]
    notes: list[str]
    counts: dict[str, int]
    shrink: Callable[[Mapping[str, Knob], float], dict[str, Knob]]


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
    data = {
        'images': Knob(str(root), 'folder to which the file names in the labels are relative'),
        'classes': Knob(labels.classes, 'in the order of the labels'),
    }
    chosen = plan_detector(labels, encoder, device, wishes.length, wishes.size)
    objects = sum(len(image.objects) for image in labels.images)
    what = f'{format_count(objects, "object")} of '
    return Plan(
        find_config('detection/custom_faster-rcnn.py'),
        _plan_data(wishes, encoder, folder, labels) | data | chosen,
        make_fit(encoder),
        _describe_labels(labels, labels.classes, what),
        _count_images(labels),
        shrink_images,
    )


def plan_segmentation(wishes: Wishes, encoder: EncoderChoice, device: Device, folder: Path) -> Plan:
    """Read masks, write lists of their splits, and plan a UPerNet, or an FCN on a CPU.

    Args:
        wishes: What the user asks for.
        encoder: The encoder.
        device: What it is trained on.
        folder: Where the labels are written.
    """
    labels = prepare_masks(wishes.data, wishes.images, wishes.ignore_index, wishes.seed)
    folders = write_masks(labels, folder)
    data = {
        'images': Knob({split: str(roots.images) for split, roots in folders.items()}, 'folder of each split'),
        'masks': Knob({split: str(roots.masks) for split, roots in folders.items()}, 'folder of each split'),
        'image_suffix': Knob(labels.splits['train'][0].image.suffix, 'of all images'),
        'mask_suffix': Knob(folders['train'].mask_suffix, 'what the name of a mask has behind that of its image'),
        'classes': Knob(labels.classes, 'of the values 0, 1, and so on; 255 does not count'),
    }
    chosen = plan_segmenter(labels, encoder, device, wishes.length, wishes.size)
    return Plan(
        find_config('segmentation/custom_upernet.py'),
        _plan_data(wishes, encoder, folder, labels) | data | chosen,
        make_fit(encoder),
        _describe_labels(labels, labels.classes),
        _count_images(labels),
        shrink_crop,
    )


def plan_classification(wishes: Wishes, encoder: EncoderChoice, device: Device, folder: Path) -> Plan:
    """Read class folders or a table, write lists of their splits, and plan a classifier.

    Args:
        wishes: What the user asks for.
        encoder: The encoder.
        device: What it is trained on.
        folder: Where the labels are written.
    """
    labels = prepare_classes(wishes.data, wishes.images, wishes.seed)
    root, classes = write_lists(labels, folder)
    counts = count_classes(labels.splits['train'])
    fewest = min(counts, key=lambda name: counts[name])
    data = {
        'images': Knob(str(root), 'folder to which the paths in the lists are relative'),
        'classes': Knob(
            classes, f'in alphabetical order; {printable(fewest)} has the fewest images, {counts[fewest]:,}'
        ),
    }
    chosen = plan_classifier(labels, encoder, device, wishes.length, wishes.size)
    return Plan(
        find_config('classification/custom_classifier.py'),
        _plan_data(wishes, encoder, folder, labels) | data | chosen,
        make_fit(encoder),
        _describe_labels(labels, classes),
        _count_images(labels),
        shrink_batch,
    )


def _plan_data(wishes: Wishes, encoder: EncoderChoice, folder: Path, labels: Labels) -> dict[str, Knob]:
    """Choose what all templates have beside images, sizes and training."""
    return {
        'weights': Knob(
            encoder.weights,
            'that the encoder begins with: --from'
            if encoder.weights
            else 'random weights; --from RUN or --from FILE begins with pretrained ones',
        ),
        'labels': Knob(str(folder.resolve()), f'made of {printable(wishes.data)} ({labels.format})'),
        'test_split': Knob('test', 'images that neither training nor the choice of the checkpoint sees')
        if 'test' in labels.splits
        else Knob('val', 'there is no test split: the test is on the images that chose the checkpoint'),
        'seed': Knob(wishes.seed, 'of the split and of the training'),
    }


def _describe_labels(labels: Labels, classes: Sequence[str], what: str = '') -> list[str]:
    """Say what was found in labels.

    Args:
        labels: The labels.
        classes: Names of their classes.
        what: What the images have, before the classes.
    """
    images = ', '.join(
        f'{format_count(count, "image") if split == "train" else f"{count:,}"} for {split}'
        for split, count in _count_images(labels).items()
    )
    named = f'{format_count(len(classes), "class", "classes")} ({some([printable(name) for name in classes])})'
    return [f'{labels.format}: {images}, {what}{named}', *labels.notes]


def _count_images(labels: Labels) -> dict[str, int]:
    """Count the images of each split."""
    return {split: len(labels.splits[split]) for split in SPLITS if split in labels.splits}


def make_fit(encoder: EncoderChoice) -> Callable[[Config], Config]:
    """Make the function that puts an encoder, and what its images were normalized by, into a config.

    Args:
        encoder: The encoder.
    """

    def fit(cfg: Config) -> Config:
        config = dict(encoder.config)
        if encoder.type == 'SparseCNN' and encoder.weights is not None:
            config['norm_eval'] = True  # statistics of small batches are worse than those of the pretraining
        cfg = fit_encoder(cfg, config, encoder.weights, encoder.channels_rule)
        cfg.model.data_preprocessor.update(encoder.normalization)
        return cfg

    return fit


TASKS: dict[str, Callable[[Wishes, EncoderChoice, Device, Path], Plan]] = {
    'classify': plan_classification,
    'detect': plan_detection,
    'segment': plan_segmentation,
}
