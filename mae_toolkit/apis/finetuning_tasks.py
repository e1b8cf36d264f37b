"""What each task of fine-tuning does with labels: reads them, writes them as they are used, and plans the config."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.labels.classes import count_classes, prepare_classes, write_lists
from mae_toolkit.datasets.labels.find import prepare_boxes, write_coco
from mae_toolkit.datasets.labels.mask_writer import write_masks
from mae_toolkit.datasets.labels.masks import prepare_masks
from mae_toolkit.downstream import fit_encoder
from mae_toolkit.planning.classification import plan_classifier
from mae_toolkit.planning.detection import plan_detector
from mae_toolkit.planning.device import Device
from mae_toolkit.planning.encoders import EncoderChoice
from mae_toolkit.planning.finetuning import Length
from mae_toolkit.planning.segmentation import plan_segmenter
from mae_toolkit.planning.templates import find_config
from mae_toolkit.printing import printable, some


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
    counts = _count({split: len(images) for split, images in labels.splits.items()})
    objects = sum(len(image.objects) for image in labels.images)
    found = f'{labels.format}: {counts}, {objects} objects of {_describe(labels.classes)}'
    knobs = _plan_data(wishes, encoder, folder, labels.format, list(labels.splits))
    knobs['images'] = Knob(str(root), 'folder to which the file names in the labels are relative')
    knobs['classes'] = Knob(labels.classes, 'in the order of the labels')
    knobs |= plan_detector(labels, encoder, device, wishes.length, wishes.size)
    template = find_config('detection/custom_faster-rcnn.py')
    return Plan(template, knobs, make_fit(encoder), [found, *labels.notes])


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
    pair = next(iter(labels.splits['train']))
    knobs = _plan_data(wishes, encoder, folder, 'masks', list(labels.splits))
    knobs['images'] = Knob({split: str(roots.images) for split, roots in folders.items()}, 'folders')
    knobs['masks'] = Knob({split: str(roots.masks) for split, roots in folders.items()}, 'folders')
    knobs['image_suffix'] = Knob(pair.image.suffix, 'of all images')
    knobs['mask_suffix'] = Knob(folders['train'].mask_suffix, 'what the name of a mask has behind that of its image')
    knobs['classes'] = Knob(labels.classes, 'of the values 0, 1, and so on; 255 does not count')
    knobs |= plan_segmenter(labels, encoder, device, wishes.length, wishes.size)
    found = f'masks: {_count({split: len(p) for split, p in labels.splits.items()})}, {_describe(labels.classes)}'
    template = find_config('segmentation/custom_upernet.py')
    return Plan(template, knobs, make_fit(encoder), [found, *labels.notes])


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
    knobs = _plan_data(wishes, encoder, folder, labels.format, list(labels.splits))
    knobs['images'] = Knob(str(root), 'folder to which the paths in the lists are relative')
    counts = count_classes(labels.splits['train'])
    fewest = min(counts, key=lambda name: counts[name])
    knobs['classes'] = Knob(
        classes, f'in alphabetical order; {printable(fewest)} has the fewest images, {counts[fewest]}'
    )
    knobs |= plan_classifier(labels, encoder, device, wishes.length, wishes.size)
    found = f'{labels.format}: {_count({s: len(p) for s, p in labels.splits.items()})}, {_describe(classes)}'
    template = find_config('classification/custom_classifier.py')
    return Plan(template, knobs, make_fit(encoder), [found, *labels.notes])


def _plan_data(
    wishes: Wishes, encoder: EncoderChoice, folder: Path, form: str, splits: Sequence[str]
) -> dict[str, Knob]:
    """Choose what all templates have beside sizes and training."""
    if 'test' in splits:
        test = Knob('test', 'images that neither training nor the choice of the checkpoint sees')
    else:
        test = Knob('val', 'there is no test split: the test is on the images that chose the checkpoint')
    given = (
        'that the encoder begins with: --from'
        if encoder.weights
        else 'random ones; --from RUN or a file begins with others'
    )
    return {
        'weights': Knob(encoder.weights, given),
        'labels': Knob(str(folder.resolve()), f'made of {printable(wishes.data)} ({form})'),
        'test_split': test,
        'seed': Knob(wishes.seed, 'of the split and of the training'),
    }


def _count(counts: dict[str, int]) -> str:
    """Write how many images each split has: ``'70 images for train, 15 for val'``."""
    ordered = [(split, counts[split]) for split in ('train', 'val', 'test') if split in counts]
    return ', '.join(f'{count}{" images" * (i == 0)} for {split}' for i, (split, count) in enumerate(ordered))


def _describe(classes: Sequence[str]) -> str:
    return (
        f'{len(classes)} {"class" if len(classes) == 1 else "classes"} ({some([printable(name) for name in classes])})'
    )


def make_fit(encoder: EncoderChoice) -> Callable[[Config], Config]:
    """Make the function that puts an encoder, and what its images were normalized by, into a config.

    Args:
        encoder: The encoder.
    """

    def fit(cfg: Config) -> Config:
        config = dict(encoder.config)
        if encoder.type == 'SparseCNN' and encoder.weights is not None:
            config['norm_eval'] = True  # statistics of small batches are worse than those of the pretraining
        cfg = fit_encoder(cfg, config, encoder.weights)
        cfg.model.data_preprocessor.update(encoder.normalization)
        return cfg

    return fit


TASKS: dict[str, Callable[[Wishes, EncoderChoice, Device, Path], Plan]] = {
    'classify': plan_classification,
    'detect': plan_detection,
    'segment': plan_segmentation,
}
