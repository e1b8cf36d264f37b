"""Report what MMDetection ignores: heads and evaluators that do not fit the data, and an evaluation of nothing."""

import re
from logging import Logger
from typing import Any

from mmengine.dist import master_only
from mmengine.evaluator import Evaluator
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.utils.data import DataLoader

from mae_toolkit.datasets.reproducible import find_leaf_datasets
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.printing import some
from mae_toolkit.registry import HOOKS

HEAD = re.compile(r'(^|\.)(bbox_head|mask_head)(\.\d+)?$')  # not the RPN's, which has one class, any object
SUFFIXES = ('', '_50', '_75', '_s', '_m', '_l')


@HOOKS.register_module()
class DetectionHook(Hook):
    """Hook that compares heads and evaluators with COCO annotations, and reports zeros if nothing was predicted.

    The annotations themselves are checked before anything is built, see :mod:`mae_toolkit.datasets.checks`. MMDetection
    returns no metrics where a model predicts nothing.

    Raises:
        UserError: If a head has another number of classes than the annotations, or the evaluator has the annotations
            of other images.
    """

    priority = 'HIGHEST'  # before MMEngine notes the metrics

    def before_train(self, runner: Runner) -> None:
        """Check the heads, and the evaluator of the validation."""
        check_heads(runner.train_dataloader, runner.model)
        if runner.val_loop is not None:
            check_heads(runner.val_dataloader, runner.model)
            check_evaluator(runner.val_dataloader, runner.val_evaluator)

    def before_test(self, runner: Runner) -> None:
        """Check the heads and the evaluator of the test."""
        check_heads(runner.test_dataloader, runner.model)
        check_evaluator(runner.test_dataloader, runner.test_evaluator)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Report zeros if nothing was predicted."""
        report_zeros(runner.val_evaluator, metrics, runner.logger)

    def after_test_epoch(self, runner: Runner, metrics: dict[str, Any] | None = None) -> None:
        """Report zeros if nothing was predicted."""
        report_zeros(runner.test_evaluator, metrics, runner.logger)


@master_only
def check_heads(loader: DataLoader, model: nn.Module) -> None:
    """Refuse a detector whose heads have another number of classes than the COCO annotations.

    Args:
        loader: Data loader with the annotations; datasets of other formats are not compared.
        model: The detector.

    Raises:
        UserError: With both numbers.
    """
    heads = {name: part for name, part in unwrap(model).named_modules() if HEAD.search(name)}
    for dataset in find_leaf_datasets(loader.dataset):
        classes = dataset.metainfo['classes'] if hasattr(dataset, 'cat_ids') else None
        for name, head in heads.items():
            count = getattr(head, 'num_classes', None)
            if classes is not None and count not in (None, len(classes)):
                raise UserError(
                    f'{name} has num_classes={count}, but {dataset.ann_file} has {len(classes)} classes '
                    f'({some(classes)}): set model.{name}.num_classes, or metainfo=dict(classes=...).'
                )


@master_only
def check_evaluator(loader: DataLoader, evaluator: Evaluator) -> None:
    """Refuse an evaluator that compares predictions with the annotations of other images.

    Args:
        loader: Data loader of the images.
        evaluator: The evaluator.

    Raises:
        UserError: With some of the images.
    """
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


def report_zeros(evaluator: Evaluator, metrics: dict[str, Any] | None, logger: Logger) -> None:
    """Set COCO's metrics to zero, in place, if there are no metrics because nothing was predicted.

    Args:
        evaluator: The evaluator, which knows the names of the metrics.
        metrics: What it returned.
        logger: Logger of a warning.
    """
    if metrics is None or metrics:
        return
    for metric in evaluator.metrics:
        kinds = [kind for kind in getattr(metric, 'metrics', ()) if kind in ('bbox', 'segm')]
        metrics.update({f'{metric.prefix}/{kind}_mAP{suffix}': 0.0 for kind in kinds for suffix in SUFFIXES})
    if metrics:
        logger.warning('Not a single object was predicted, so all metrics are zero.')
