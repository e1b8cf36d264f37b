"""What the page computes with, loaded once and shared by all visitors."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, TypeVar

from mae_toolkit.apis.anomaly import AnomalyDetector, load_anomaly_detector
from mae_toolkit.apis.collections import Collection
from mae_toolkit.apis.embedding import FeatureExtractor, load_feature_extractor
from mae_toolkit.apis.encoders import load_autoencoder
from mae_toolkit.apis.reconstruct import Reconstructor
from mae_toolkit.checkpoints.run_folder import find_run
from mae_toolkit.config import load_config
from mae_toolkit.datasets import ImageLimits
from mae_toolkit.demo.uploads import MOST_BYTES, MOST_PIXELS, ImageReader
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.downstream.predictor import Predictor
from mae_toolkit.downstream.task_predictors import load_predictor
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.reading import list_items
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.planning.device import find_device

T = TypeVar('T')


@dataclass(frozen=True)
class Sources:
    """What a page is made of.

    Attributes:
        checkpoint: Run, checkpoint or weights, see :func:`~mae_toolkit.apis.load_encoder`.
        arch: Architecture of timm, if the weights do not say it.
        images: Folder among whose images the nearest ones are found.
        features: File of :func:`~mae_toolkit.apis.embed` that keeps the vectors of the folder.
        anomaly: File of a detector of anomalies.
        detector: Folder of the run of a detector, segmenter or classifier.
        size: Pixels of the shorter side of what the model sees; as in the training if None.
        limits: Largest image that is read.
        device: Device; a GPU if there is one.
    """

    checkpoint: str
    arch: str | None = None
    images: str | None = None
    features: str | None = None
    anomaly: str | None = None
    detector: str | None = None
    size: int | None = None
    limits: ImageLimits = field(default_factory=lambda: ImageLimits(MOST_PIXELS, MOST_BYTES))
    device: str | None = None


@dataclass(frozen=True, eq=False)
class Models:
    """What the page computes with; nothing of it changes, and one computation runs at a time.

    Attributes:
        name: What the checkpoint is called.
        extractor: With the encoder.
        reader: Reads images that visitors give.
        autoencoder: The whole model; None if there is no decoder.
        no_autoencoder: Why there is none.
        collection: Images with their vectors, if a folder is given.
        anomaly: The detector of anomalies, if one is given.
        predictor: The detector, segmenter or classifier, if one is given.
        computing: Is held during a computation: the random numbers of masks are those of the process.
    """

    name: str
    extractor: FeatureExtractor
    reader: ImageReader
    autoencoder: MaskedAutoencoder | None = None
    no_autoencoder: str = ''
    collection: Collection | None = None
    anomaly: AnomalyDetector | None = None
    predictor: Predictor | None = None
    computing: Lock = field(default_factory=Lock)


def load_models(sources: Sources) -> Models:
    """Load what a page computes with, and make the vectors of the folder of images.

    Raises:
        UserError: If something that is given cannot be loaded. A checkpoint without a decoder is no such thing.
    """
    device = sources.device or find_device().type
    if sources.features is not None and sources.images is None:
        raise UserError(f'--features {sources.features} keeps the vectors of a folder: give it, too, by --images.')
    extractor = load_feature_extractor(sources.checkpoint, sources.arch, size=sources.size, device=device)
    transform = extractor.transform
    assert isinstance(transform, EncoderTransform)
    autoencoder, reason = _load_autoencoder(sources.checkpoint, device)
    return Models(
        name=Path(sources.checkpoint).name or sources.checkpoint,
        extractor=_freeze(extractor),
        reader=ImageReader(transform, sources.limits, sources.size),
        autoencoder=autoencoder,
        no_autoencoder=reason,
        collection=_if_given(sources.images, lambda folder: _collect(folder, sources, extractor)),
        anomaly=_if_given(sources.anomaly, lambda file: load_anomaly_detector(file, device=device)),
        predictor=_if_given(sources.detector, lambda run: _load_predictor(run, device, sources.limits)),
    )


def _if_given(value: str | None, load: Callable[[str], T]) -> T | None:
    return None if value is None else load(value)


def _load_autoencoder(checkpoint: str, device: str) -> tuple[MaskedAutoencoder | None, str]:
    """Load the whole model, or say why there is none to reconstruct with."""
    try:
        model, _ = load_autoencoder(checkpoint, device)
        Reconstructor(model)  # refuses a model that predicts no picture
    except UserError as error:
        return None, str(error)
    return model.eval().requires_grad_(False), ''


def _freeze(extractor: FeatureExtractor) -> FeatureExtractor:
    extractor.encoder.eval().requires_grad_(False)
    return extractor


def _collect(folder: str, sources: Sources, extractor: FeatureExtractor) -> Collection:
    """Make the vectors of the images of a folder, or read those that have been kept."""
    items, names = list_items(folder)
    found = extractor.write(folder, sources.features) if sources.features else extractor(folder)
    paths = dict(zip(names, items, strict=True))
    about: dict[str, Any] = {'encoder': sources.checkpoint, 'features': sources.features}
    kept = tuple(paths[name] for name in found.names)
    return Collection(found.names, kept, found.choose(), found.default, found.skipped, extractor, about)


def _load_predictor(run: str, device: str, limits: ImageLimits) -> Predictor:
    found = find_run(run)
    return load_predictor(load_config(found.config), found.checkpoint, device, limits)
