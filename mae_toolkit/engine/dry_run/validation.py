"""Run the validation on a few images, as it will run later, and find out which metrics it computes."""

import copy
import os
import re
from typing import Any

from mmengine.runner import Runner, ValLoop

from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.dry_run.coco import check_annotations, has_coco_annotations
from mae_toolkit.engine.dry_run.evaluator import DryRunEvaluator
from mae_toolkit.engine.dry_run.metrics import is_coco, list_known_names
from mae_toolkit.engine.dry_run.mistakes import explain_prediction, note_failed_part
from mae_toolkit.engine.dry_run.samples import FixedBatches, draw_first_keys, load_batches
from mae_toolkit.engine.loops import LossLoop
from mae_toolkit.errors import UserError

IMAGES = 2
NOTE = (
    'This was raised by the dry run of the validation before training, on the first images of val_dataloader; '
    'default_hooks.validation_check=None turns it off.'
)


class DryRun:
    """What a dry run found out about the metrics of a validation.

    Args:
        loop: The validation loop.
        metrics: What its copy returned; None if it was not run.
        evaluator: The evaluator of the copy; None if there is none.

    Attributes:
        metrics: Values for the few images, by name; empty if nothing was measured.
        names: Names of the metrics that were computed, and of those that are known to be computed on more images.
        gives_nothing: Whether the validation has no part that could compute a metric.
    """

    def __init__(self, loop: Any, metrics: dict[str, Any] | None, evaluator: DryRunEvaluator | None) -> None:
        self.metrics = dict(metrics or {})
        self._parts = getattr(getattr(loop, 'evaluator', None), 'metrics', [])
        self._given = {} if evaluator is None else evaluator.given
        self._own_loop = not isinstance(loop, LossLoop) and type(loop).run is not ValLoop.run
        self._done = metrics is not None
        known = [name for part in self._parts for name in list_known_names(part) or ()]
        self.names = list(dict.fromkeys([*self.metrics, *known]))
        self.gives_nothing = self._done and not self.names and not self._parts and not self._own_loop

    def may_give(self, name: str) -> bool:
        """Return whether a metric of this name may be computed on more images, for all that is known.

        Args:
            name: Name of the metric.
        """
        if not self._done or (self._own_loop and not self.metrics):
            return not self._parts or any(self._may_be_of(part, None, name) for part in self._parts)
        return any(self._may_be_of(part, self._given.get(place), name) for place, part in enumerate(self._parts))

    def _may_be_of(self, part: Any, given: dict | None, name: str) -> bool:
        known = list_known_names(part)
        if known is not None:
            return name in known
        if part.prefix and not name.startswith(f'{part.prefix}/'):
            return False
        classes = (part.dataset_meta or {}).get('classes') or ()
        return not given or any(_holds_word(name, str(one)) for one in classes)  # a class that the few images lack


def _holds_word(name: str, word: str) -> bool:
    return re.search(rf'(?<![A-Za-z0-9]){re.escape(word)}(?![A-Za-z0-9])', name) is not None


class _QuietRunner:
    """A runner that has all attributes of another one, and calls no hooks."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runner, name)

    def call_hook(self, fn_name: str, **kwargs: Any) -> None:
        """Call no hook: hooks log, draw and save."""


def find_coco_metrics(loop: Any) -> list[Any]:
    """Return the metrics of a validation loop that compare predictions with COCO annotations."""
    parts = getattr(getattr(loop, 'evaluator', None), 'metrics', ())
    return [metric for metric in parts if is_coco(metric) and has_coco_annotations(metric)]


def try_validation(runner: Runner) -> DryRun:
    """Run a copy of the validation loop on the first images.

    Args:
        runner: The runner; call this within :func:`~mae_toolkit.engine.dry_run.traces.leave_no_trace`.

    Raises:
        UserError: If there is no image, or metrics, annotations, model and pipeline do not fit each other.
        Exception: What a part of the user's own raises, with a note that it was in the dry run.
    """
    loop = runner.val_loop
    for metric in find_coco_metrics(loop):
        check_annotations(metric)
    loader = loop.dataloader
    keys = draw_first_keys(loader, IMAGES)
    if keys is None:
        return DryRun(loop, None, None)
    if not any(keys):
        raise _no_batch_error(loader)
    try:
        batches, all_replaced = load_batches(loader, keys)
        if all_replaced:
            return DryRun(loop, None, None)
        return _run(runner, loop, FixedBatches(loader, keys, batches), batches)
    except UserError:
        raise
    except Exception as error:
        error.add_note(NOTE)
        raise


def _run(runner: Runner, loop: Any, batches: FixedBatches, loaded: list) -> DryRun:
    original = getattr(loop, 'evaluator', None)
    model = unwrap(runner.model)
    evaluator = None if original is None else DryRunEvaluator(original, model)
    before = [copy.copy(batch) for batch in loaded]  # MMEngine's preprocessors replace entries
    try:
        metrics = _copy_loop(loop, runner, batches, evaluator).run()
    except Exception as error:
        explain_prediction(error, before, model)
        note_failed_part(error, model)
        raise
    finally:
        if evaluator is not None:
            evaluator.close()
    return DryRun(loop, metrics if isinstance(metrics, dict) else None, evaluator)


def _copy_loop(loop: Any, runner: Runner, batches: FixedBatches, evaluator: DryRunEvaluator | None) -> Any:
    """Copy a loop, with other batches and another evaluator, and without hooks."""
    kept = (runner.model, unwrap(runner.model), runner.logger, runner.message_hub, runner.visualizer, runner.cfg)
    replaced = {id(one): one for one in kept}
    replaced |= {id(runner): _QuietRunner(runner), id(loop.dataloader): batches}
    if evaluator is not None:
        replaced[id(loop.evaluator)] = evaluator
    try:
        return copy.deepcopy(loop, replaced)
    except (TypeError, RuntimeError):  # it holds what cannot be copied
        copied = copy.copy(loop)
        for name, value in vars(loop).items():
            if id(value) in replaced:
                setattr(copied, name, replaced[id(value)])
        return copied


def _no_batch_error(loader: Any) -> UserError:
    images, size = len(loader.dataset), loader.batch_size
    where = getattr(loader.dataset, 'ann_file', None) or getattr(loader.dataset, 'data_root', None)
    place = f' of {os.fspath(where)}' if isinstance(where, str | os.PathLike) and where else ''
    if images and getattr(loader, 'drop_last', False):
        return UserError(
            f'The validation has no batch: val_dataloader has {images} images{place} in batches of {size} and '
            'drop_last=True; set val_dataloader.drop_last=False.'
        )
    return UserError(
        f'The validation has no batch: val_dataloader gives none of {images} images{place}; name held-out images, or '
        'leave the validation out by val_dataloader=None, val_cfg=None and val_evaluator=None.'
    )
