"""Explain errors of libraries in a dry run in one sentence where a mistake in the config is the reason."""

import traceback
from collections.abc import Sequence
from typing import Any

from mmengine.evaluator import BaseMetric
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

from mae_toolkit.engine.dry_run.metrics import IOU_ITEMS, LIBRARIES, is_coco, is_iou, is_of_library
from mae_toolkit.errors import ARGUMENT_ERRORS, UserError, is_own_file
from mae_toolkit.evaluation.accuracy import Accuracy

META_KEYS = ('img_id', 'img_path', 'img_shape', 'ori_shape', 'pad_shape', 'scale_factor', 'flip', 'flip_direction')
INPUTS = {
    'inputs': 'end its pipeline with PackDetInputs or PackSegInputs',
    'imgs': "set val_dataloader.collate_fn=dict(type='mae_toolkit.image_collate')",
}
NO_LABELS = 'add LoadAnnotations to the pipeline of val_dataloader'
NO_TASK = 'choose the evaluator of the task, such as CocoMetric for detectors and IoUMetric for segmenters'


def explain_processing(error: Exception, metric: BaseMetric, samples: Sequence, batch: Any, model: Any) -> None:
    """Explain an error of a library's metric about something that its samples lack; return if that is not the reason.

    Args:
        error: What the metric raised.
        metric: The metric.
        samples: Outputs of the model, as the metric got them.
        batch: Input of the model.
        model: The model.

    Raises:
        UserError: With the remedy; the error is its cause.
    """
    if not is_of_library(metric) or not samples:
        return
    name, gives, first = type(metric).__name__, type(model).__name__, samples[0]
    if isinstance(metric, Accuracy):
        if not isinstance(first, Tensor):
            raise UserError(
                f'{name} reads the scores of a Classifier, and the {gives} gives {_describe(first)}: {NO_TASK}.'
            ) from error
        if isinstance(batch, dict) and 'labels' not in batch:
            raise UserError(f'{name} needs labels, and val_dataloader has none: set a LabeledDataset.') from error
        return
    if not isinstance(first, dict):
        raise UserError(
            f'{name} reads data samples of a detector or segmenter, and the {gives} gives {_describe(first)}: choose '
            'the evaluator of the task, such as Accuracy for classifiers.'
        ) from error
    key = error.args[0] if isinstance(error, KeyError) and error.args else None
    if isinstance(error, AssertionError) and is_coco(metric) and 'instances' not in first:
        raise UserError(
            f'{name} has no annotations to compare with: set val_evaluator.ann_file to the file of val_dataloader, or '
            "name 'instances' in meta_keys of PackDetInputs."
        ) from error
    if isinstance(key, str) and all(key not in sample for sample in samples):
        raise UserError(f'{name} needs {key!r}, and the {gives} gives {_describe(first)}: {_remedy(key)}.') from error


def explain_evaluation(error: Exception, metric: BaseMetric, model: Any) -> None:
    """Explain an error of a metric that asks for what neither model nor annotations have; return if it does not.

    Args:
        error: What the metric raised.
        metric: The metric.
        model: The model.

    Raises:
        UserError: With the remedy; the error is its cause.
    """
    if not is_of_library(metric):
        return
    name, text = type(metric).__name__, str(error.args[0]) if error.args else ''
    if is_coco(metric) and isinstance(error, KeyError):
        if text == 'segm is not in results':
            raise UserError(
                f'{name} has metric={metric.metrics}, and the {type(model).__name__} predicts no masks: set '
                'val_evaluator.metric=bbox, or choose a detector with a mask head.'
            ) from error
        if text.startswith('metric item'):
            raise UserError(f'{name} does not know metric_items={metric.metric_items}: leave them out.') from error
    if is_iou(metric) and isinstance(error, KeyError) and 'is not supported' in text:
        known = ', '.join(IOU_ITEMS)
        raise UserError(f'{name} knows no iou_metrics={metric.metrics}; known are {known}.') from error
    if is_coco(metric) and isinstance(error, AssertionError):  # COCO's loadRes
        raise UserError(
            f'{name} has annotations of other images than val_dataloader: give both the same ann_file.'
        ) from error


def explain_prediction(error: Exception, batches: list, model: Any) -> None:
    """Explain an error of a library's model about something that its batches lack; return if that is not the reason.

    Args:
        error: What the model raised.
        batches: Its inputs.
        model: The model.

    Raises:
        UserError: With the remedy; the error is its cause.
    """
    batch = batches[0] if batches else None
    if not isinstance(batch, dict) or not _comes_from_library(error):
        return
    key = error.args[0] if isinstance(error, KeyError) and error.args else getattr(error, 'name', None)
    name = type(model).__name__
    if key in INPUTS and key not in batch:
        raise UserError(
            f'The {name} needs {key!r}, and val_dataloader gives {", ".join(map(str, batch))}: {INPUTS[key]}.'
        ) from error
    shapes = {tuple(one.shape) for one in batch.get('inputs') or () if isinstance(one, Tensor)}
    if isinstance(error, AssertionError) and len(shapes) > 1:
        raise UserError(
            f'The images of a batch of the validation differ in size ({", ".join(map(str, sorted(shapes)))}): set '
            'val_dataloader.batch_size=1, or resize them to one size.'
        ) from error
    samples = [one for one in batch.get('data_samples') or () if isinstance(one, BaseDataElement)]
    if isinstance(error, AssertionError) and samples and 'scale_factor' not in samples[0]:
        key = 'scale_factor'  # MMDetection asserts this one without a word
    if key in META_KEYS and samples and key not in samples[0]:
        raise UserError(
            f'The {name} needs {key!r} of each image of the validation: name it in meta_keys at the end of the '
            'pipeline of val_dataloader.'
        ) from error


def note_failed_part(error: Exception, model: nn.Module) -> None:
    """Name the part of a model that failed in a note below the stack trace, if the config may be the reason.

    Parts of libraries are built with almost any settings, such as numbers of channels, and fail when they are run.
    Errors in a module of the user's own show their place themselves.

    Args:
        error: What the model raised.
        model: The model.
    """
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    if not (isinstance(error, ARGUMENT_ERRORS) or type(error) in (RuntimeError, NameError, NotImplementedError)):
        return  # out of memory, an interruption
    if any(is_own_file(frame.f_code.co_filename) for frame in frames):
        return
    names = {id(module): name for name, module in model.named_modules()}
    found = [names[id(owner)] for frame in frames if id(owner := frame.f_locals.get('self')) in names]
    if not found:
        return
    part = next(filter(None, found), '').partition('.')[0]
    kind = type(model.get_submodule(part)).__name__
    place = f', in {found[-1]}' if found[-1] != part else ''
    error.add_note(
        f'{"model." if part else "model"}{part} ({kind}) fails as configured on the first images of val_dataloader'
        f'{place}.'
    )


def _comes_from_library(error: Exception) -> bool:
    """Return whether the function that raised an error is one of the libraries'."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    return bool(frames) and str(frames[-1].f_globals.get('__name__')).partition('.')[0] in LIBRARIES


def _describe(sample: Any) -> str:
    """Name what a model returns for an image."""
    if isinstance(sample, Tensor):
        return f'scores of shape {tuple(sample.shape)}'
    if isinstance(sample, dict):
        return ', '.join(str(name) for name in sample if str(name).startswith(('pred', 'gt', 'img_id', 'ori'))) or '-'
    return type(sample).__name__


def _remedy(key: str) -> str:
    if key.startswith('pred'):
        return NO_TASK
    if key in META_KEYS:
        return 'name it in meta_keys at the end of the pipeline of val_dataloader'
    return NO_LABELS
