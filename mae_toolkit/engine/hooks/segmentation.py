"""What MMSegmentation passes over in silence: heads and labels that do not fit, and classes that never occur."""

import torch
from mmengine.dist import all_reduce, master_only
from mmengine.hooks import Hook

from mae_toolkit.datasets.image_dataset import check_integer
from mae_toolkit.datasets.reproducible import find_leaf_datasets
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.printing import some
from mae_toolkit.registry import HOOKS

VALUES = 256  # that a label can have


@HOOKS.register_module()
class SegmentationHook(Hook):
    """Checks heads and the labels of each batch, and says which classes an evaluation has not seen.

    Images and masks are looked at before the run is built (:mod:`mae_toolkit.datasets.checks.semantic`), but only some
    masks are read then. A label beyond the classes ends training in a stack trace (on a GPU of its driver), and is left
    out in evaluation. A class that does not occur has no IoU, and the mean is of the others.

    Args:
        masks (int): How many masks of a dataset are read before the first step, evenly spread over it. The others are
            looked at batch by batch.

    Raises:
        UserError: If labels are beyond the classes of the config, or a head has other classes; with both numbers.
    """

    priority = 'HIGHEST'  # before MMEngine notes the metrics

    def __init__(self, masks=1000):
        check_integer('masks', masks, 0, 'how many masks are read before the first step')
        self._pixels = torch.zeros(VALUES, dtype=torch.int64)

    def before_train(self, runner):
        """Compare the heads with what is trained on, and what is validated on."""
        for loader in (runner.train_dataloader, *([runner.val_dataloader] if runner.val_loop is not None else [])):
            check(loader, runner.model)

    def before_test(self, runner):
        """Compare the heads with what is tested on."""
        check(runner.test_dataloader, runner.model)

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Check the labels of the batch."""
        check_batch(data_batch['data_samples'], runner.model)

    def before_val_epoch(self, runner):
        """Begin to count."""
        self._pixels.zero_()

    before_test_epoch = before_val_epoch

    def after_val_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        """Check and count the labels of the batch."""
        check_batch(outputs, runner.model)
        for label in [label for label in map(_label, outputs) if label is not None]:
            self._pixels += torch.bincount(label.flatten(), minlength=VALUES)

    after_test_iter = after_val_iter

    def after_val_epoch(self, runner, metrics=None):
        """Name the classes that did not occur."""
        report_absent(runner.val_dataloader.dataset.metainfo['classes'], self._pixels, metrics, runner.logger)

    def after_test_epoch(self, runner, metrics=None):
        """Name the classes that did not occur."""
        report_absent(runner.test_dataloader.dataset.metainfo['classes'], self._pixels, metrics, runner.logger)


@master_only
def check(loader, model):
    """Refuse a segmenter whose heads have another number of classes than a dataset of MMSegmentation.

    Args:
        loader (DataLoader): Its dataset may be repeated or joined of several; others are not looked at.
        model (nn.Module): The segmenter.
    """
    for dataset in find_leaf_datasets(loader.dataset):
        if hasattr(dataset, 'seg_map_suffix'):
            for name, head in _heads(model).items():
                check_classes(name, head, dataset)


def check_classes(name, head, dataset):
    """Refuse a head with another number of classes than the dataset."""
    classes = dataset.metainfo['classes']
    if classes is not None and len(classes) != head.num_classes:
        raise UserError(
            f'{name} has num_classes={head.num_classes}, and {type(dataset).__name__} of {_place(dataset)} has '
            f'{len(classes)} classes ({some(classes)}): set model.{name}.num_classes or metainfo=dict(classes=...).'
        )


def check_batch(samples, model):
    """Refuse labels beyond the classes in a batch of samples."""
    head = next(iter(_heads(model).values()), None)
    for sample in samples if head is not None else ():
        label = _label(sample)
        if label is None or label.max() < head.num_classes:
            continue
        outside = _beyond(torch.bincount(label.flatten(), minlength=VALUES), head.num_classes, head.ignore_index)
        if outside:
            raise UserError(
                f'The mask {sample.get("seg_map_path", "of a sample")} has labels ({some(outside)}) beyond those of '
                f'the {head.num_classes} classes, 0 to {head.num_classes - 1}: relabel it, or name all classes in '
                'metainfo and num_classes.'
            )


def report_absent(classes, pixels, metrics, logger):
    """Say which classes no image had, and give what has no value for that reason the value zero, in place.

    Args:
        classes (Sequence[str]): Of the dataset.
        pixels (Tensor): (256,) how often each label occurred, in this process.
        metrics (dict | None): Of the evaluator.
        logger (Logger): Is told.
    """
    pixels = pixels.clone()
    all_reduce(pixels)
    absent = _absent(classes, pixels)
    if absent:
        verb = 'occurs' if len(absent) == 1 else 'occur'
        logger.warning(
            f'{len(absent)} of the {len(classes)} classes {verb} in none of the masks ({some(absent)}): where they are '
            'predicted nowhere either, means are of the other classes, else their IoU is zero.'
        )
    empty = [name for name, value in (metrics or {}).items() if value != value]  # nan
    if empty:
        metrics.update(dict.fromkeys(empty, 0.0))
        logger.warning(f'{some(empty)} had nothing to be measured on, and is given as zero.')


def _heads(model):
    """{name: head} of a segmenter."""
    children = unwrap(model).named_children()
    return {name: head for name, head in children if hasattr(head, 'num_classes') and hasattr(head, 'ignore_index')}


def _label(sample):
    """Labels (1, H, W) of a sample, or None."""
    return sample.gt_sem_seg.data.cpu() if 'gt_sem_seg' in sample else None


def _beyond(pixels, count, ignored):
    """Labels that occur, are not ignored and are of no class."""
    return [label for label in range(count, len(pixels)) if pixels[label] and label != ignored]


def _absent(classes, pixels):
    return [f'{name} ({label})' for label, name in enumerate(classes) if not pixels[label]]


def _place(dataset):
    return dataset.ann_file or dataset.data_prefix.get('seg_map_path') or dataset.data_prefix.get('img_path')
