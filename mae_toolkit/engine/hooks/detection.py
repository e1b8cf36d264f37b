"""What MMDetection passes over in silence: heads and evaluators that do not fit the data, and no prediction at all."""

import re

from mmengine.dist import master_only
from mmengine.hooks import Hook

from mae_toolkit.datasets.reproducible import find_leaf_datasets
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.printing import some
from mae_toolkit.registry import HOOKS

HEAD = re.compile(r'(^|\.)(bbox_head|mask_head)(\.\d+)?$')  # not the RPN's, which has one class, any object
SUFFIXES = ('', '_50', '_75', '_s', '_m', '_l')


@HOOKS.register_module()
class DetectionHook(Hook):
    """Checks the parts that use COCO annotations, and reports zeros where nothing was predicted.

    The annotations themselves are looked at before anything is built, see :mod:`mae_toolkit.datasets.checks`. An
    evaluation without a prediction gives no numbers in MMDetection.

    Raises:
        UserError: If a head has another number of classes than the annotations, or the evaluator has the annotations
            of other images.
    """

    priority = 'HIGHEST'  # before MMEngine notes the metrics

    def before_train(self, runner):
        """Check what is trained, and what is validated."""
        check_heads(runner.train_dataloader, runner.model)
        if runner.val_loop is not None:
            check_heads(runner.val_dataloader, runner.model)
            check_evaluator(runner.val_dataloader, runner.val_evaluator)

    def before_test(self, runner):
        """Check what is tested."""
        check_heads(runner.test_dataloader, runner.model)
        check_evaluator(runner.test_dataloader, runner.test_evaluator)

    def after_val_epoch(self, runner, metrics=None):
        """Fill in zeros."""
        report_zeros(runner.val_evaluator, metrics, runner.logger)

    def after_test_epoch(self, runner, metrics=None):
        """Fill in zeros."""
        report_zeros(runner.test_evaluator, metrics, runner.logger)


@master_only
def check_heads(loader, model):
    """Refuse a detector whose heads have another number of classes than annotations of COCO's format."""
    heads = {name: part for name, part in unwrap(model).named_modules() if HEAD.search(name)}
    for dataset in find_leaf_datasets(loader.dataset):
        classes = dataset.metainfo['classes'] if hasattr(dataset, 'cat_ids') else None
        for name, head in heads.items():
            count = getattr(head, 'num_classes', None)
            if classes is not None and count not in (None, len(classes)):
                raise UserError(
                    f'{name} has num_classes={count}, and {dataset.ann_file} is of {len(classes)} classes '
                    f'({some(classes)}): set model.{name}.num_classes, or metainfo=dict(classes=...).'
                )


@master_only
def check_evaluator(loader, evaluator):
    """Refuse an evaluator that compares predictions with the annotations of other images."""
    for dataset in find_leaf_datasets(loader.dataset):
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


def report_zeros(evaluator, metrics, logger):
    """Give COCO's metrics the value zero, in place, if there are none, which is so without any prediction."""
    if metrics is None or metrics:
        return
    for metric in evaluator.metrics:
        kinds = [kind for kind in getattr(metric, 'metrics', ()) if kind in ('bbox', 'segm')]
        metrics.update({f'{metric.prefix}/{kind}_mAP{suffix}': 0.0 for kind in kinds for suffix in SUFFIXES})
    if metrics:
        logger.warning('Not a single object was predicted, so all metrics are zero.')
