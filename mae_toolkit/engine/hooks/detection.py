"""What MMDetection passes over in silence: annotations that do not fit, and that nothing was predicted."""

import json
import re
from pathlib import Path

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS

SMALL = 2**26  # bytes of annotations that are read twice without a thought
HEAD = re.compile(r'(^|\.)(bbox_head|mask_head)(\.\d+)?$')  # not the RPN's, which has one class, any object
SUFFIXES = ('', '_50', '_75', '_s', '_m', '_l')


@HOOKS.register_module()
class DetectionHook(Hook):
    """Checks COCO annotations before they are used, and reports zeros where nothing was predicted.

    Of classes that a file does not know, and of annotations whose class the config does not name, MMDetection says
    nothing, and a missing image ends a run when it is its turn. An evaluation without a prediction gives it no numbers.

    Raises:
        UserError: If classes do not match, or images are missing, with how many and the first few; if a head has
            another number of classes, images share an id, or there is not one object to train on.
    """

    priority = 'HIGHEST'  # before MMEngine notes the metrics

    def before_train(self, runner):
        """Check what is trained on, and what is validated on."""
        for loader in (runner.train_dataloader, *([runner.val_dataloader] if runner.val_loop is not None else [])):
            check(loader)
            check_heads(loader, runner.model)
        check_objects(runner.train_dataloader)
        if runner.val_loop is not None:
            check_evaluator(runner.val_dataloader, runner.val_evaluator)

    def before_test(self, runner):
        """Check what is tested on."""
        check(runner.test_dataloader)
        check_heads(runner.test_dataloader, runner.model)
        check_evaluator(runner.test_dataloader, runner.test_evaluator)

    def after_val_epoch(self, runner, metrics=None):
        """Fill in zeros."""
        report_zeros(runner.val_evaluator, metrics, runner.logger)

    def after_test_epoch(self, runner, metrics=None):
        """Fill in zeros."""
        report_zeros(runner.test_evaluator, metrics, runner.logger)


@master_only
def check(loader):
    """Refuse annotations of COCO's format that fit neither the config nor the images; others are not looked at."""
    for dataset in parts_of(loader.dataset):
        if hasattr(dataset, 'cat_ids'):
            check_classes(dataset)
            check_images(dataset)


@master_only
def check_heads(loader, model):
    """Refuse a detector whose heads have another number of classes than annotations of COCO's format."""
    heads = {name: part for name, part in unwrap(model).named_modules() if HEAD.search(name)}
    for dataset in parts_of(loader.dataset):
        classes = dataset.metainfo['classes'] if hasattr(dataset, 'cat_ids') else None
        for name, head in heads.items():
            count = getattr(head, 'num_classes', None)
            if classes is not None and count not in (None, len(classes)):
                raise UserError(
                    f'{name} has num_classes={count}, and {dataset.ann_file} is of {len(classes)} classes '
                    f'({some(classes)}): set model.{name}.num_classes, or metainfo=dict(classes=...).'
                )


@master_only
def check_objects(loader):
    """Refuse to train on annotations of COCO's format without a single object that lies in its image."""
    for dataset in parts_of(loader.dataset):
        if not hasattr(dataset, 'cat_ids'):
            continue
        if not any(dataset.get_data_info(i)['instances'] for i in range(len(dataset))):
            raise UserError(
                f'{dataset.ann_file} has no object in any of {len(dataset)} images: look at its annotations, whose '
                'boxes are [left, top, width, height] in pixels.'
            )


@master_only
def check_evaluator(loader, evaluator):
    """Refuse an evaluator that compares predictions with the annotations of other images."""
    for dataset in parts_of(loader.dataset):
        infos = [dataset.get_data_info(i) for i in range(len(dataset))] if hasattr(dataset, 'cat_ids') else []
        for metric in evaluator.metrics:
            known = getattr(getattr(metric, '_coco_api', None), 'imgs', None)
            if known is None:
                continue  # its annotations are those of the dataset
            names = {number: image['file_name'] for number, image in known.items()}
            others = [i['img_path'] for i in infos if not i['img_path'].endswith(names.get(i['img_id'], '\0'))]
            if others:
                raise UserError(
                    f'{len(others)} of the {len(infos)} images of {dataset.ann_file} are not those of the annotations '
                    f'that the evaluator has ({some(others)}): give both the same ann_file.'
                )


def parts_of(dataset):
    """The datasets that one repeats, cuts or joins, or itself."""
    for name in ('dataset', 'datasets'):
        inner = getattr(dataset, name, None)
        if inner is not None:
            return [part for one in (inner if name == 'datasets' else [inner]) for part in parts_of(one)]
    return [dataset]


def check_classes(dataset):
    """Refuse a file of COCO's format with other classes than the config, or in another order, or with ids twice."""
    classes = list(dataset.metainfo['classes'])
    unnamed = set(dataset.cat_img_map) - set(dataset.cat_ids)
    if len(dataset.cat_ids) == len(classes) and not unnamed and Path(dataset.ann_file).stat().st_size > SMALL:
        return
    content = json.loads(Path(dataset.ann_file).read_text())
    _check_ids(dataset.ann_file, [image['id'] for image in content['images']])
    categories = {item['id']: item['name'] for item in content['categories']}
    known = list(categories.values())
    if lacking := [name for name in classes if name not in known]:
        reason = f'{len(lacking)} classes of the config are not in it ({some(lacking)})'
    elif unnamed := sorted(categories.get(item, str(item)) for item in unnamed):
        reason = f'{len(unnamed)} classes that are annotated in it are not in the config ({some(unnamed)})'
    elif (ordered := [name for name in known if name in classes]) != classes:
        reason = f'its order of the classes is {some(ordered)}, that of the config {some(classes)}'
    else:
        return
    raise UserError(f'{dataset.ann_file} does not match the config: {reason}; set metainfo=dict(classes=...) to fit.')


def _check_ids(file, ids):
    """Refuse images that share an id, of which MMDetection would take the last alone."""
    if twice := len(ids) - len(set(ids)):
        raise UserError(f'{file}: {twice} of the {len(ids)} images have the id of another: number them.')


def check_images(dataset):
    """Refuse a dataset whose images are not all there."""
    paths = [dataset.get_data_info(i)['img_path'] for i in range(len(dataset))]
    missing = [path for path in paths if not Path(path).is_file()]
    if missing:
        raise UserError(
            f'{len(missing)} of the {len(paths)} images of {dataset.ann_file} are missing ({some(missing)}): give '
            'data_root and data_prefix of the folder that holds them.'
        )


def report_zeros(evaluator, metrics, logger):
    """Give COCO's metrics the value zero, in place, if there are none, which is so without any prediction."""
    if metrics is None or metrics:
        return
    for metric in evaluator.metrics:
        kinds = [kind for kind in getattr(metric, 'metrics', ()) if kind in ('bbox', 'segm')]
        metrics.update({f'{metric.prefix}/{kind}_mAP{suffix}': 0.0 for kind in kinds for suffix in SUFFIXES})
    if metrics:
        logger.warning('Not a single object was predicted, so all metrics are zero.')


def some(names, most=3):
    """The first few names, and how many more there are."""
    return ', '.join(map(str, names[:most])) + (f', … {len(names) - most} more' if len(names) > most else '')
