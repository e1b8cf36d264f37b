"""Report what MMSegmentation ignores: heads and labels that do not fit, and classes that never occur."""

from collections.abc import Sequence
from logging import Logger
from typing import Any

import torch
from mmengine.dist import all_reduce, master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mae_toolkit.datasets.item_arguments import check_integer
from mae_toolkit.datasets.reproducible import find_leaf_datasets
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.printing import some
from mae_toolkit.registry import HOOKS

NUM_LABELS = 256  # values that a label can have


@HOOKS.register_module()
class SegmentationHook(Hook):
    """Hook that checks heads and the labels of each batch, and warns about classes that an evaluation lacks.

    Images and masks are checked before the run is built (:mod:`mae_toolkit.datasets.checks.semantic`), but only some
    masks are read then. MMSegmentation ends with a stack trace (on a GPU, one of its driver) at a label that is beyond
    the classes, and ignores such a label in evaluation. A class that does not occur has no IoU, and the mean is taken
    over the others.

    Args:
        masks: Number of masks of a dataset that are read before the first step, at equal distances in it. The others
            are checked batch by batch.

    Raises:
        UserError: If a label is beyond the classes of the config, or a head has another number of classes.
    """

    priority = 'HIGHEST'  # before MMEngine notes the metrics

    def __init__(self, masks: int = 1000) -> None:
        check_integer('masks', masks, 0, 'how many masks are read before the first step')
        self._pixels = torch.zeros(NUM_LABELS, dtype=torch.int64)

    def before_train(self, runner: Runner) -> None:
        """Compare the heads with the datasets of training and validation."""
        for loader in (runner.train_dataloader, *([runner.val_dataloader] if runner.val_loop is not None else [])):
            check_heads(loader, runner.model)

    def before_test(self, runner: Runner) -> None:
        """Compare the heads with the dataset of the test."""
        check_heads(runner.test_dataloader, runner.model)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Check the labels of the batch."""
        check_labels(data_batch['data_samples'], runner.model)

    def before_val_epoch(self, runner: Runner) -> None:
        """Start to count labels."""
        self._pixels.zero_()

    before_test_epoch = before_val_epoch

    def after_val_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Check and count the labels of the batch."""
        check_labels(outputs, runner.model)
        for label in [label for label in map(_get_labels, outputs) if label is not None]:
            self._pixels += torch.bincount(label.flatten(), minlength=NUM_LABELS)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Warn about classes that did not occur."""
        report_absent(runner.val_dataloader.dataset.metainfo['classes'], self._pixels, metrics, runner.logger)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Warn about classes that did not occur."""
        report_absent(runner.test_dataloader.dataset.metainfo['classes'], self._pixels, metrics, runner.logger)


@master_only
def check_heads(loader: DataLoader, model: nn.Module) -> None:
    """Refuse a segmenter whose heads have another number of classes than a dataset of MMSegmentation.

    Args:
        loader: Data loader; datasets that repeat or join others are looked into, and those of other libraries skipped.
        model: The segmenter.

    Raises:
        UserError: With both numbers.
    """
    for dataset in find_leaf_datasets(loader.dataset):
        if hasattr(dataset, 'seg_map_suffix'):
            for name, head in _find_heads(model).items():
                check_head(name, head, dataset)


def check_head(name: str, head: Any, dataset: Any) -> None:
    """Refuse a head with another number of classes than the dataset.

    Args:
        name: Name of the head in the model.
        head: The head.
        dataset: A dataset of MMSegmentation.

    Raises:
        UserError: With both numbers.
    """
    classes = dataset.metainfo['classes']
    if classes is not None and len(classes) != head.num_classes:
        raise UserError(
            f'{name} has num_classes={head.num_classes}, and {type(dataset).__name__} of {_get_place(dataset)} has '
            f'{len(classes)} classes ({some(classes)}): set model.{name}.num_classes or metainfo=dict(classes=...).'
        )


def check_labels(samples: Sequence[Any], model: nn.Module) -> None:
    """Refuse a batch with labels that are beyond the classes.

    Args:
        samples: Data samples of the batch.
        model: The segmenter, whose heads know the number of classes.

    Raises:
        UserError: With the labels and the mask.
    """
    head: Any = next(iter(_find_heads(model).values()), None)
    for sample in samples if head is not None else ():
        label = _get_labels(sample)
        if label is None or label.max() < head.num_classes:
            continue
        outside = _find_beyond(
            torch.bincount(label.flatten(), minlength=NUM_LABELS), head.num_classes, head.ignore_index
        )
        if outside:
            raise UserError(
                f'The mask {sample.get("seg_map_path", "of a sample")} has labels ({some(outside)}) beyond those of '
                f'the {head.num_classes} classes, 0 to {head.num_classes - 1}: relabel it, or name all classes in '
                'metainfo and num_classes.'
            )


def report_absent(classes: Sequence[str], pixels: Tensor, metrics: dict[str, Any] | None, logger: Logger) -> None:
    """Warn about classes that occur in no image, and set metrics that have no value for that reason to zero, in place.

    Args:
        classes: Names of the classes.
        pixels: (256,) number of pixels of each label in this process.
        metrics: Metrics of the evaluator.
        logger: Logger of the warnings.
    """
    pixels = pixels.clone()
    all_reduce(pixels)
    absent = _list_absent(classes, pixels)
    if absent:
        verb = 'occurs' if len(absent) == 1 else 'occur'
        logger.warning(
            f'{len(absent)} of the {len(classes)} classes {verb} in none of the masks ({some(absent)}): where they are '
            'predicted nowhere either, means are of the other classes, else their IoU is zero.'
        )
    empty = [name for name, value in (metrics or {}).items() if value != value]  # NaN
    if empty and metrics is not None:
        metrics.update(dict.fromkeys(empty, 0.0))
        logger.warning(f'{some(empty)} had nothing to be measured on, and is reported as zero.')


def _find_heads(model: nn.Module) -> dict[str, Any]:
    """Return the heads of a segmenter by name."""
    children = unwrap(model).named_children()
    return {name: head for name, head in children if hasattr(head, 'num_classes') and hasattr(head, 'ignore_index')}


def _get_labels(sample: Any) -> Tensor | None:
    """Return the labels (1, H, W) of a sample; None if it has none."""
    return sample.gt_sem_seg.data.cpu() if 'gt_sem_seg' in sample else None


def _find_beyond(pixels: Tensor, count: int, ignored: int) -> list[int]:
    """Return the labels that occur, are not ignored and belong to no class."""
    return [label for label in range(count, len(pixels)) if pixels[label] and label != ignored]


def _list_absent(classes: Sequence[str], pixels: Tensor) -> list[str]:
    return [f'{name} ({label})' for label, name in enumerate(classes) if not pixels[label]]


def _get_place(dataset: Any) -> str | None:
    return dataset.ann_file or dataset.data_prefix.get('seg_map_path') or dataset.data_prefix.get('img_path')
