"""Trained detectors, segmenters and classifiers that predict on an image: a file, or an array."""

import inspect

import numpy as np
import torch
from PIL import Image

from mae_toolkit.datasets import BrokenImageError
from mae_toolkit.datasets.image_dataset import apply_pipeline
from mae_toolkit.downstream.predictor import Predictor, check_finite, to_display_rgb
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.models import Classifier, MaskedAutoencoder
from mae_toolkit.models.build import build_model
from mae_toolkit.registry import MODELS, SCOPE, TRANSFORMS
from mae_toolkit.visualization import Objects, draw_classes, draw_labels, draw_objects

FIRST = 5  # classes that a classifier tells of
SURE = 0.3  # score from which on objects are told


def load_predictor(cfg, checkpoint, device='cpu', limits=None, **options):
    """What a config and a checkpoint predict, as a function of images.

    ``load_predictor(load_config('config.py'), 'iter_500.pth')('photo.jpg')``

    Args:
        cfg (Config): As of :func:`load_config`: of a detector of MMDetection, a segmenter of MMSegmentation, or a
            :class:`Classifier`. Its test pipeline prepares the images; its data need not be there.
        checkpoint (str): Of its training.
        device (str): Where to predict.
        limits (ImageLimits | None): The largest image that is decoded; by default that of the config's test dataset, if
            it sets ``max_pixels`` or ``max_bytes``, or the usual one.
        **options: ``score`` of a :class:`Detector`, ``top`` of an :class:`ImageClassifier`.

    Returns:
        Predictor: For the task.

    Raises:
        UserError: If the config is of another task, the checkpoint of another model, or an option of another task.
    """
    kind = _kind(cfg)
    accepted = inspect.signature(kind.__init__).parameters
    for name in options:
        if name not in accepted:
            owners = [cls.task for cls in KINDS if name in inspect.signature(cls.__init__).parameters]
            raise UserError(f'{name} is an option of {" and ".join(owners) or "no task"}, and this is {kind.task}.')
    return kind(cfg, checkpoint, device, limits=limits, **options)


class Detector(Predictor):
    """A detector of MMDetection; a result is :class:`Objects`.

    Args:
        cfg (Config), checkpoint (str), device (str), limits (ImageLimits | None): See :func:`load_predictor`.
        score (float): Objects below it are left out.
    """

    task = 'detection'

    def __init__(self, cfg, checkpoint, device='cpu', score=SURE, limits=None):
        super().__init__(cfg, checkpoint, device, limits)
        self.score = score

    def _predict(self, file):
        sample = self._sample(file)
        if 'pred_instances' not in sample:
            raise UserError(f'{type(self.model).__name__} predicts no objects, which have boxes and scores.')
        found = sample.pred_instances.cpu()
        if found.scores.isnan().any() or found.bboxes.isnan().any():
            raise BrokenImageError(str(file.path), 'its boxes or scores are no numbers (NaN)')
        order = found.scores.argsort(descending=True, stable=True)
        found = found[order[found.scores[order] >= self.score]]
        masks = found.masks.numpy().astype(bool) if 'masks' in found else None
        return Objects(found.bboxes.numpy(), found.scores.numpy(), found.labels.numpy(), masks)

    def to_dict(self, result):
        """Objects with ``box`` (left, top, right, bottom, in pixels), ``score``, ``class``, and ``mask`` (COCO RLE)."""
        told_of = []
        for i, (box, score, label) in enumerate(zip(result.boxes, result.scores, result.labels, strict=True)):
            entry = {'class': self._name(label), 'score': _short(score), 'box': [round(float(x), 2) for x in box]}
            told_of.append(entry if result.masks is None else entry | {'mask': run_lengths(result.masks[i])})
        return {'objects': told_of}

    def draw(self, image, result, side=None):
        """Boxes, or masks, names and scores, and below how many of each class."""
        return draw_objects(to_display_rgb(image, self.limits), result, self.classes, self.colors, side)


class Segmenter(Predictor):
    """A segmenter of MMSegmentation; a result is (H, W) int64, the class of every pixel."""

    task = 'segmentation'

    def _predict(self, file):
        sample = self._sample(file)
        if 'seg_logits' in sample and sample.seg_logits.data.isnan().any():
            raise BrokenImageError(str(file.path), 'its scores are no numbers (NaN)')
        labels = sample.pred_sem_seg.data[0].cpu().numpy()
        self._name(int(labels.max()))
        return labels

    def to_dict(self, result):
        """``shares``: of the pixels, by class, of the classes that are there, the largest first."""
        counts = np.bincount(result.ravel(), minlength=len(self.classes))
        order = [i for i in np.argsort(-counts, kind='stable') if counts[i]]
        return {'shares': {self.classes[i]: _short(counts[i] / result.size) for i in order}}

    def draw(self, image, result, side=None):
        """Tints, and below the share of each class."""
        return draw_labels(to_display_rgb(image, self.limits), result, self.classes, self.colors, side)

    def maps(self, result):
        """``labels``: the number of every pixel's class, with the colors as palette; of 16 bits beyond 256 classes."""
        if len(self.classes) > 256:
            return {'labels': Image.fromarray(result.astype(np.uint16))}
        picture = Image.fromarray(result.astype(np.uint8))
        picture.putpalette(np.array(self.colors, np.uint8).tobytes())
        return {'labels': picture}


class ImageClassifier(Predictor):
    """A :class:`Classifier`; a result is (K,) float32, the probability of each class.

    Args:
        cfg (Config), checkpoint (str), device (str), limits (ImageLimits | None): See :func:`load_predictor`.
        top (int): How many of the classes are told.
    """

    task = 'classification'

    def __init__(self, cfg, checkpoint, device='cpu', top=FIRST, limits=None):
        super().__init__(cfg, checkpoint, device, limits)
        self.top = top

    def _build(self, cfg):
        return build_model(cfg)

    def _about(self, dataset):
        """Names of the classes, if the config has them; a split whose folders they are may not be there."""
        self.channels = dataset.get('channels', 3)
        classes = dataset.get('classes')
        return {} if classes is None or isinstance(classes, str) else {'classes': classes}

    def _prepare_for(self, pipeline):
        self.classes = self.classes or [str(number) for number in range(self.model.num_classes)]
        if len(self.classes) != self.model.num_classes:
            raise UserError(
                f'There are names of {len(self.classes)} classes, and the model has num_classes='
                f'{self.model.num_classes}: is the checkpoint of this config?'
            )
        with wrap_build_error('The test pipeline'):
            self._transforms = [TRANSFORMS.build(step) for step in pipeline]

    def _predict(self, file):
        name = str(file.path)
        image = apply_pipeline(file, self._transforms, self.channels, name, np.random.default_rng(0))
        check_finite(image, name)
        batch = {'imgs': torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]}  # (1, C, H, W)
        found = self.model(**self.model.data_preprocessor(batch), mode='predict')[0].cpu().numpy()
        if not np.isfinite(found).all():
            raise BrokenImageError(name, 'its probabilities are not finite')
        return found

    def to_dict(self, result):
        """The likeliest classes with ``class`` and ``probability``."""
        return {'classes': [{'class': name, 'probability': _short(p)} for name, p in self._likeliest(result)]}

    def draw(self, image, result, side=None):
        """The likeliest classes below the picture, with a bar each."""
        names, probabilities = zip(*self._likeliest(result), strict=True)
        return draw_classes(to_display_rgb(image, self.limits), names, probabilities, side)

    def _likeliest(self, result):
        return [(self.classes[i], float(result[i])) for i in np.argsort(-result, kind='stable')[: self.top]]


KINDS = (Detector, Segmenter, ImageClassifier)


def _kind(cfg):
    """The kind of predictor that a config asks for."""
    scope = cfg.get('default_scope', SCOPE)
    if scope in ('mmdet', 'mmseg'):
        return {'mmdet': Detector, 'mmseg': Segmenter}[scope]
    kind = MODELS.get(cfg.model.get('type', 'MaskedAutoencoder')) if scope == SCOPE else None
    if inspect.isclass(kind) and issubclass(kind, Classifier):
        return ImageClassifier
    if inspect.isclass(kind) and issubclass(kind, MaskedAutoencoder):
        raise UserError(
            f'The config pretrains a {kind.__name__}, which knows no classes: tools/reconstruct.py shows what it makes '
            'of hidden parts, and configs/detection and configs/classification train what it was made for.'
        )
    raise UserError(
        f'The config has default_scope={scope!r} and the model {cfg.model.get("type")!r}; predictions are made by '
        'detectors (mmdet), segmenters (mmseg) and the Classifier.'
    )


def run_lengths(mask):
    """A mask (H, W) bool as COCO's compressed run lengths: ``size`` and ``counts``, which ``pycocotools`` reads."""
    from pycocotools import mask as coco  # comes with MMDetection

    encoded = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {'size': list(encoded['size']), 'counts': encoded['counts'].decode()}


def _short(number):
    return round(float(number), 6)
