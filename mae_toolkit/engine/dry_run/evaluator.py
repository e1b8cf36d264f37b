"""Copy an evaluator to measure a few images without a change to the original."""

import copy
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmengine.evaluator import BaseMetric, Evaluator
from mmengine.structures import BaseDataElement

from mae_toolkit.engine.dry_run.coco import has_coco_annotations, keep_images
from mae_toolkit.engine.dry_run.metrics import evaluates_parts, is_of_library
from mae_toolkit.engine.dry_run.mistakes import explain_evaluation, explain_processing
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.coco import LoggedEvaluator

PLAIN = (Evaluator.evaluate, LoggedEvaluator.evaluate)  # that only compute the metrics
OUTPUTS = ('outfile_prefix', 'output_dir', 'out_file_path')  # attributes with the place to which a metric writes


class DryRunEvaluator(Evaluator):
    """An evaluator with copies of another one's metrics, which write into a temporary folder.

    Args:
        evaluator: The original.
        model: The model, which is named in errors.

    Attributes:
        given: Computed values by the index of the metric, only of metrics that were computed.
    """

    def __init__(self, evaluator: Evaluator, model: Any) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._model, self._dataset_meta = model, evaluator.dataset_meta
        self._image_ids: set[int] = set()
        kind = type(evaluator)
        self._is_plain = kind.process is Evaluator.process and kind.evaluate in PLAIN
        self.metrics = [_copy_metric(metric, Path(self._folder.name)) for metric in evaluator.metrics]
        self.given: dict[int, dict[str, Any]] = {}

    def process(self, data_samples: Sequence, data_batch: Any = None) -> None:
        """Pass a batch to each metric.

        Args:
            data_samples: Outputs of the model.
            data_batch: The batch.
        """
        if not self._is_plain:
            return
        samples = [one.to_dict() if isinstance(one, BaseDataElement) else one for one in data_samples]
        self._image_ids |= {one['img_id'] for one in samples if isinstance(one, dict) and 'img_id' in one}
        for metric in self.metrics:
            if _holds_folder(metric):
                continue
            try:
                metric.process(data_batch, samples)
            except Exception as error:
                explain_processing(error, metric, samples, data_batch, self._model)
                raise

    def evaluate(self, size: int) -> dict:
        """Compute the metrics that can be computed on a part of the images.

        Args:
            size: Number of images.
        """
        metrics: dict[str, Any] = {}
        for place, metric in enumerate(self.metrics):
            if not self._is_plain or _holds_folder(metric) or not evaluates_parts(metric):
                continue
            try:
                if has_coco_annotations(metric):
                    metric._coco_api = keep_images(metric._coco_api, self._image_ids)
                self.given[place] = metric.evaluate(size)
            except Exception as error:
                explain_evaluation(error, metric, self._model)
                raise
            if twice := sorted(metrics.keys() & self.given[place].keys()):
                raise UserError(
                    f'Two metrics of val_evaluator are named {twice[0]!r}: give one of them a prefix, as in '
                    f"dict(type='{type(metric).__name__}', prefix='other')."
                )
            metrics.update(self.given[place])
        return metrics

    def close(self) -> None:
        """Remove what the metrics have written."""
        self._folder.cleanup()


def _holds_folder(metric: BaseMetric) -> bool:
    """Return whether a library's metric has its own temporary folder, which is deleted with any of its copies."""
    return is_of_library(metric) and getattr(metric, 'tmp_dir', None) is not None


def _copy_metric(metric: BaseMetric, folder: Path) -> BaseMetric:
    """Copy a metric without its results; COCO annotations are shared, and files are written into another folder."""
    if _holds_folder(metric):
        return metric
    shared = {id(metric._coco_api): metric._coco_api} if has_coco_annotations(metric) else {}
    try:
        copied = copy.deepcopy(metric, shared) if evaluates_parts(metric) else copy.copy(metric)
    except (TypeError, RuntimeError):  # it holds what cannot be copied, such as an open file
        copied = copy.copy(metric)
    copied.results = []
    for name in OUTPUTS:
        if isinstance(getattr(copied, name, None), str | Path):
            place = folder / str(id(metric)) / Path(getattr(copied, name)).name
            (place if name == 'output_dir' else place.parent).mkdir(parents=True, exist_ok=True)
            setattr(copied, name, str(place))
    return copied
