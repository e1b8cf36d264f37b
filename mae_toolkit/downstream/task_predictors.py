"""Trained detectors, segmenters and classifiers that predict on an image: a file or an array."""

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import nn

from mae_toolkit.datasets import BrokenImageError, ImageLimits
from mae_toolkit.datasets.any_image import ImageLike, check_finite
from mae_toolkit.datasets.image_io import ImageFile
from mae_toolkit.datasets.image_pipeline import apply_pipeline
from mae_toolkit.downstream.predictor import Predictor, to_display_rgb
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.models import Classifier, MaskedAutoencoder
from mae_toolkit.models.build import build_model
from mae_toolkit.registry import MODELS, SCOPE, TRANSFORMS
from mae_toolkit.visualization import Objects, draw_classes, draw_labels, draw_objects

DEFAULT_TOP = 5  # most probable classes that a classifier names
DEFAULT_SCORE = 0.3  # objects of a lower score are left out


def load_predictor(
    cfg: Config,
    checkpoint: str | Path,
    device: str = 'cpu',
    limits: ImageLimits | None = None,
    **options: Any,
) -> Predictor:
    """Load a trained detector, segmenter or classifier as a function of images.

    Example::

        predictor = load_predictor(load_config('config.py'), 'iter_500.pth', score=0.5)
        result = predictor('photo.jpg')

    Args:
        cfg: Config of a detector of MMDetection, a segmenter of MMSegmentation, or a :class:`Classifier`. Its test
            pipeline prepares the images; its data need not exist.
        checkpoint: Checkpoint of its training.
        device: Device to predict on.
        limits: Largest image that is decoded; by default that of the config's test dataset, if it sets ``max_pixels``
            or ``max_bytes``, else the usual one.
        **options: ``score`` of a :class:`Detector`, ``top`` of an :class:`ImageClassifier`.

    Raises:
        UserError: If the config is of another task, the checkpoint of another model, or an option of another task.
    """
    cls = _find_predictor_class(cfg)
    accepted = inspect.signature(cls.__init__).parameters
    for name in options:
        if name not in accepted:
            owners = [other.task for other in PREDICTORS if name in inspect.signature(other.__init__).parameters]
            raise UserError(f'{name} is an option of {" and ".join(owners) or "no task"}, and this is {cls.task}.')
    return cls(cfg, checkpoint, device, limits=limits, **options)


class Detector(Predictor):
    """Predictor with a detector of MMDetection; a result is :class:`Objects`.

    Args:
        cfg: See :class:`Predictor`.
        checkpoint: See :class:`Predictor`.
        device: See :class:`Predictor`.
        score: Objects of a lower score are left out, 0 to 1.
        limits: See :class:`Predictor`.
    """

    task = 'detection'

    def __init__(
        self,
        cfg: Config,
        checkpoint: str | Path,
        device: str = 'cpu',
        score: float = DEFAULT_SCORE,
        limits: ImageLimits | None = None,
    ) -> None:
        super().__init__(cfg, checkpoint, device, limits)
        self.score = score

    def _predict(self, file: ImageFile) -> Objects:
        sample = self._predict_sample(file)
        if 'pred_instances' not in sample:
            raise UserError(f'{type(self.model).__name__} predicts no objects, which have boxes and scores.')
        found = sample.pred_instances.cpu()
        if found.scores.isnan().any() or found.bboxes.isnan().any():
            raise BrokenImageError(str(file.path), 'its boxes or scores are not numbers (NaN)')
        order = found.scores.argsort(descending=True, stable=True)
        found = found[order[found.scores[order] >= self.score]]
        masks = found.masks.numpy().astype(bool) if 'masks' in found else None
        return Objects(found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy(), masks)

    def to_dict(self, result: Objects) -> dict[str, Any]:
        """Convert objects to plain values.

        Each has ``class``, ``score``, ``box`` (left, top, right, bottom in pixels), and ``mask`` (COCO's compressed run
        lengths) if the detector predicts masks.
        """
        entries = []
        for i, (box, score, label) in enumerate(zip(result.boxes, result.scores, result.labels, strict=True)):
            name, corners = self._class_name(label), [round(float(x), 2) for x in box]
            entry: dict[str, Any] = {'class': name, 'score': _round(score), 'box': corners}
            entries.append(entry if result.masks is None else entry | {'mask': to_run_lengths(result.masks[i])})
        return {'objects': entries}

    def draw(self, image: ImageLike, result: Objects, side: int | None = None) -> Image.Image:
        """Draw boxes or masks with names and scores, and below the image how many objects of each class there are."""
        return draw_objects(to_display_rgb(image, self.limits), result, self.classes, self.colors, side)


class Segmenter(Predictor):
    """Predictor with a segmenter of MMSegmentation; a result is the class of every pixel, (H, W) int64."""

    task = 'segmentation'

    def _predict(self, file: ImageFile) -> np.ndarray:
        sample = self._predict_sample(file)
        if 'seg_logits' in sample and sample.seg_logits.data.isnan().any():
            raise BrokenImageError(str(file.path), 'its scores are not numbers (NaN)')
        labels = sample.pred_sem_seg.data[0].cpu().numpy()
        self._class_name(int(labels.max()))
        return labels

    def to_dict(self, result: np.ndarray) -> dict[str, Any]:
        """Return ``shares``: the share of the pixels of each class that occurs, the largest first."""
        counts = np.bincount(result.ravel(), minlength=len(self.classes))
        order = [i for i in np.argsort(-counts, kind='stable') if counts[i]]
        return {'shares': {self.classes[i]: _round(counts[i] / result.size) for i in order}}

    def draw(self, image: ImageLike, result: np.ndarray, side: int | None = None) -> Image.Image:
        """Tint the pixels of each class, and name below the image its share."""
        return draw_labels(to_display_rgb(image, self.limits), result, self.classes, self.colors, side)

    def maps(self, result: np.ndarray) -> dict[str, Image.Image]:
        """Return ``labels``: the class of every pixel, with the colors as palette; with 16 bits beyond 256 classes."""
        if len(self.classes) > 256:
            return {'labels': Image.fromarray(result.astype(np.uint16))}
        picture = Image.fromarray(result.astype(np.uint8))
        picture.putpalette(np.array(self.colors, np.uint8).tobytes())
        return {'labels': picture}


class ImageClassifier(Predictor):
    """Predictor with a :class:`Classifier`; a result is the probability of each class, (K,) float32.

    Args:
        cfg: See :class:`Predictor`.
        checkpoint: See :class:`Predictor`.
        device: See :class:`Predictor`.
        top: How many of the most probable classes are named.
        limits: See :class:`Predictor`.
    """

    task = 'classification'

    def __init__(
        self,
        cfg: Config,
        checkpoint: str | Path,
        device: str = 'cpu',
        top: int = DEFAULT_TOP,
        limits: ImageLimits | None = None,
    ) -> None:
        super().__init__(cfg, checkpoint, device, limits)
        self.top = top

    def _build(self, cfg: Config) -> nn.Module:
        return build_model(cfg)

    def _read_class_info(self, dataset: dict[str, Any]) -> dict[str, Any]:
        """Return the names of the classes if the config has them; folders that are named after them need not exist."""
        self.channels = dataset.get('channels', 3)
        classes = dataset.get('classes')
        return {} if classes is None or isinstance(classes, str) else {'classes': classes}

    def _prepare_pipeline(self, pipeline: Sequence[dict[str, Any]]) -> None:
        num_classes = self.model.num_classes
        self.classes = self.classes or [str(number) for number in range(num_classes)]
        if len(self.classes) != num_classes:
            raise UserError(
                f'The config names {len(self.classes)} classes, but the model has num_classes='
                f'{num_classes}: is the checkpoint of this config?'
            )
        with wrap_build_error('The test pipeline'):
            self._transforms = [TRANSFORMS.build(step) for step in pipeline]

    def _predict(self, file: ImageFile) -> np.ndarray:
        name = str(file.path)
        image = apply_pipeline(file, self._transforms, self.channels, name, np.random.default_rng(0))
        check_finite(image, name)
        batch = {'imgs': torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]}  # (1, C, H, W)
        found = self.model(**self.model.data_preprocessor(batch), mode='predict')[0].cpu().numpy()
        if not np.isfinite(found).all():
            raise BrokenImageError(name, 'its probabilities are not finite')
        return found

    def to_dict(self, result: np.ndarray) -> dict[str, Any]:
        """Return ``classes``: ``class`` and ``probability`` of the most probable classes."""
        return {'classes': [{'class': name, 'probability': _round(p)} for name, p in self._most_probable(result)]}

    def draw(self, image: ImageLike, result: np.ndarray, side: int | None = None) -> Image.Image:
        """Draw the most probable classes below the image, with a bar for each."""
        names, probabilities = zip(*self._most_probable(result), strict=True)
        return draw_classes(to_display_rgb(image, self.limits), names, probabilities, side)

    def _most_probable(self, result: np.ndarray) -> list[tuple[str, float]]:
        return [(self.classes[i], float(result[i])) for i in np.argsort(-result, kind='stable')[: self.top]]


PREDICTORS = (Detector, Segmenter, ImageClassifier)


def _find_predictor_class(cfg: Config) -> type[Predictor]:
    """Return the class of predictors for the task of a config."""
    scope = cfg.get('default_scope', SCOPE)
    if scope == 'mmdet':
        return Detector
    if scope == 'mmseg':
        return Segmenter
    cls = MODELS.get(cfg.model.get('type', 'MaskedAutoencoder')) if scope == SCOPE else None
    if inspect.isclass(cls) and issubclass(cls, Classifier):
        return ImageClassifier
    if inspect.isclass(cls) and issubclass(cls, MaskedAutoencoder):
        raise UserError(
            f'The config pretrains a {cls.__name__}: such a run has an encoder, and no head that predicts anything. '
            'Train one on labels by mae-toolkit finetune detect|segment|classify LABELS --from RUN; '
            'tools/reconstruct.py shows what the run itself makes of hidden parts.'
        )
    raise UserError(
        f'The config has default_scope={scope!r} and the model {cfg.model.get("type")!r}; predictions are made by '
        'detectors (mmdet), segmenters (mmseg) and the Classifier.'
    )


def to_run_lengths(mask: np.ndarray) -> dict[str, Any]:
    """Convert a mask (H, W) bool to COCO's compressed run lengths: ``size`` and ``counts``, for ``pycocotools``."""
    from pycocotools import mask as coco  # comes with MMDetection

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': list(encoded['size']), 'counts': encoded['counts'].decode()}


def _round(number: Any) -> float:
    return round(float(number), 6)
