"""What MMSegmentation passes over in silence: files and labels that do not fit, and classes that never occur."""

from pathlib import Path

import torch
from mmengine.dist import all_reduce, master_only
from mmengine.hooks import Hook

from mae_toolkit.datasets import BrokenImage, open_image
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.hooks.detection import parts_of, some
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS

VALUES = 256  # that a label can have


@HOOKS.register_module()
class SegmentationHook(Hook):
    """Checks images and masks before they are used, and says which classes an evaluation has not seen.

    A missing file ends a run of MMSegmentation when it is its turn. A label beyond the classes ends training in a stack
    trace (on a GPU of its driver), and is left out in evaluation. A class that does not occur has no IoU, and the mean
    is of the others.

    Args:
        masks (int): Masks of a dataset that are read before the first step, evenly spread over it. The others are
            looked at batch by batch.

    Raises:
        UserError: If files are missing, labels are beyond the classes of the config, or a head has other classes; with
            both numbers and the first few names.
    """

    priority = 'HIGHEST'  # before MMEngine notes the metrics

    def __init__(self, masks=1000):
        self.masks = masks
        self._pixels = torch.zeros(VALUES, dtype=torch.int64)

    def before_train(self, runner):
        """Check what is trained on, and what is validated on."""
        for loader in (runner.train_dataloader, *([runner.val_dataloader] if runner.val_loop is not None else [])):
            check(loader, runner.model, self.masks, runner.logger)

    def before_test(self, runner):
        """Check what is tested on."""
        check(runner.test_dataloader, runner.model, self.masks, runner.logger)

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
def check(loader, model, masks, logger):
    """Refuse a dataset of MMSegmentation that does not fit its files or the model; others are not looked at.

    Args:
        loader (DataLoader): Its dataset may be repeated or joined of several.
        model (nn.Module): The segmenter.
        masks (int): How many masks are read.
        logger (Logger): Is told of classes that do not occur.
    """
    for dataset in parts_of(loader.dataset):
        if not hasattr(dataset, 'seg_map_suffix'):
            continue
        heads = _heads(model)
        for name, head in heads.items():
            check_classes(name, head, dataset)
        infos = [dataset.get_data_info(i) for i in range(len(dataset))]
        check_files('images', [info['img_path'] for info in infos], dataset)
        check_files('masks', [info['seg_map_path'] for info in infos if 'seg_map_path' in info], dataset)
        if heads:
            check_masks(dataset, infos, masks, next(iter(heads.values())).ignore_index, logger)


def check_classes(name, head, dataset):
    """Refuse a head with another number of classes than the dataset."""
    classes = dataset.metainfo['classes']
    if classes is not None and len(classes) != head.num_classes:
        raise UserError(
            f'{name} has num_classes={head.num_classes}, and {type(dataset).__name__} of {_place(dataset)} has '
            f'{len(classes)} classes ({some(classes)}): set model.{name}.num_classes or metainfo=dict(classes=...).'
        )


def check_files(what, paths, dataset):
    """Refuse a dataset whose images or masks are not all there."""
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise UserError(
            f'{len(missing)} of the {len(paths)} {what} of {_place(dataset)} are missing ({some(missing)}): give '
            'data_root, data_prefix and suffixes of the files.'
        )


def check_masks(dataset, infos, most, ignored, logger):
    """Refuse masks that are no maps of the classes; say which classes do not occur, if all masks were read."""
    load = [step for step in dataset.pipeline.transforms if hasattr(step, 'reduce_zero_label')]  # LoadAnnotations
    infos = [info for info in infos if 'seg_map_path' in info]
    classes, read = dataset.metainfo['classes'], min(most, len(infos))
    if not load or not read or classes is None:
        return
    pixels, beyond = torch.zeros(VALUES, dtype=torch.int64), {}
    for info in [infos[i * len(infos) // read] for i in range(read)]:
        loaded = load[0](dict(info))
        here = _pixels_of(loaded)
        _check_size(info, loaded['gt_seg_map'].shape)
        outside = _beyond(here, len(classes), ignored)
        beyond |= {info['seg_map_path']: outside} if outside else {}
        pixels += here
    if beyond:
        found = sorted({label for labels in beyond.values() for label in labels})
        raise UserError(
            f'{len(beyond)} of the {read} masks read of {_place(dataset)} have labels ({some(found)}) beyond those of '
            f'the {len(classes)} classes, 0 to {len(classes) - 1} ({some(list(beyond))}): relabel them, or name all '
            'classes in metainfo and num_classes.'
        )
    absent = _absent(classes, pixels)
    if absent and read == len(infos):
        share = f'{pixels[ignored] / pixels.sum():.0%} of the pixels have the label {ignored}, which is ignored'
        sentence = f'{len(absent)} of the {len(classes)} classes occur in none of the {read} masks of {_place(dataset)}'
        if len(absent) == len(classes):
            raise UserError(f'{sentence}, and {share}: relabel them with 0 to {len(classes) - 1}.')
        logger.warning(f'{sentence} ({some(absent)}); {share}.')


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
        logger.warning(
            f'{len(absent)} of the {len(classes)} classes occur in none of the masks ({some(absent)}): where they are '
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


def _pixels_of(results):
    """How many pixels each label has (256,) in a mask that was loaded."""
    label = results['gt_seg_map']
    if label.ndim != 2:
        raise UserError(
            f'The mask {results["seg_map_path"]} has {label.shape[-1]} channels where one is expected, the number of '
            "the class of each pixel: convert it, and read palettes with imdecode_backend='pillow'."
        )
    return torch.bincount(torch.from_numpy(label).flatten(), minlength=VALUES)


def _check_size(info, size):
    """Refuse a mask of other pixels than its image."""
    try:
        image = open_image(info['img_path']).size
    except BrokenImage:
        return  # the loader names it when it is its turn
    if tuple(image) != tuple(size):
        raise UserError(
            f'The mask {info["seg_map_path"]} has {size[0]} x {size[1]} pixels, and its image {info["img_path"]} '
            f'{image[0]} x {image[1]}: a mask has a value for each pixel of its image.'
        )


def _beyond(pixels, count, ignored):
    """Labels that occur, are not ignored and are of no class."""
    return [label for label in range(count, len(pixels)) if pixels[label] and label != ignored]


def _absent(classes, pixels):
    return [f'{name} ({label})' for label, name in enumerate(classes) if not pixels[label]]


def _place(dataset):
    return dataset.ann_file or dataset.data_prefix.get('seg_map_path') or dataset.data_prefix.get('img_path')
