"""What the sections of a report read: the config, the model and the images, each loaded once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from mmengine.config import Config

from mae_toolkit.apis.embedding import FeatureExtractor
from mae_toolkit.apis.encoders import load_autoencoder, load_encoder
from mae_toolkit.config import load_config
from mae_toolkit.datasets import ImageLimits
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import Embeddings
from mae_toolkit.evaluation.embeddings.reading import Images, list_items, refuse_none_read
from mae_toolkit.export.preparation import read_config
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.planning.device import find_device
from mae_toolkit.printing import format_count, printable
from mae_toolkit.report.places import check_run, find_checkpoint, find_run_of
from mae_toolkit.spread import spread_indices

MOST_IMAGES = 1000
POOLINGS = ('mean', 'class')


class NotApplicable(Exception):
    """Why a section has nothing to show of this model, in a sentence; that is no mistake of the user."""


@dataclass(frozen=True)
class ReportSource:
    """What a report is about.

    Attributes:
        config: Config of the pretraining, or its path.
        checkpoint: A checkpoint, or the folder of a run: its best checkpoint, or else its newest.
        images: A folder, a file, a pattern, an array, a picture of Pillow, or several of them.
        run: Folder of the run, with its logs; that of the checkpoint if None and there are any.
        labels: Labeled images for probes of the features: class folders, a CSV of files and classes, or a folder of
            images and masks.
        label_images: Folder of the labeled images, if ``labels`` is a CSV or a folder of masks elsewhere.
        reference: Images with which the errors on the images are compared; those of the training if None.
        other: Another encoder, with which the features are compared layer by layer: a run, a checkpoint or weights.
        most_images: Images that are looked at; of more, so many at equal distances.
        seed: Seed of masks, splits and maps.
        device: Device; a GPU if there is one, if None.
        limits: Largest image that is decoded.
    """

    config: str | Path | Config
    checkpoint: str | Path
    images: Images
    run: str | Path | None = None
    labels: str | Path | None = None
    label_images: str | Path | None = None
    reference: Images | None = None
    other: str | Path | None = None
    most_images: int = MOST_IMAGES
    seed: int = 0
    device: str | None = None
    limits: ImageLimits = DEFAULT_LIMITS


class Sample(NamedTuple):
    """Some of the images.

    Attributes:
        items: The images.
        names: What they are called.
        note: How many they are, of how many, such as ``'8 of 200 images, at equal distances'``.
    """

    items: list[Any]
    names: list[str]
    note: str


class ReportInputs:
    """The config, the model and the images of a report.

    Args:
        source: What the report is about.

    Attributes:
        source: What the report is about.
        cfg: The config.
        checkpoint: The file, or the folder of a sharded checkpoint.
        run: Folder of the run; None if there is none.
        transform: From an image to what the encoder takes.
        extractor: The encoder for whole images.
        total: Number of images that were given, those beyond ``most_images`` included.

    Raises:
        UserError: If there is no such config, checkpoint or image, or the encoder of the checkpoint is another one than
            that of the config.
    """

    def __init__(self, source: ReportSource) -> None:
        if source.most_images < 1:
            raise UserError(f'most_images={source.most_images} must be 1 or more.')
        self.source, self.seed = source, source.seed
        items, names = list_items(source.images)
        chosen = spread_indices(len(items), source.most_images)
        self.total = len(items)
        self._listed = [items[index] for index in chosen], [names[index] for index in chosen]
        self.cfg = source.config if isinstance(source.config, Config) else load_config(source.config)
        self.checkpoint = find_checkpoint(source.checkpoint)
        self.run = find_run_of(self.checkpoint) if source.run is None else check_run(source.run)
        self.device = source.device or find_device().type
        config = self.cfg.model.get('encoder') or self.cfg.model.get('backbone')
        if config is None:
            raise UserError(f'{self.config_name} has no model.encoder: give the config of a pretraining.')
        config = {key: value for key, value in config.to_dict().items() if key != 'init_cfg'}
        encoder, _ = load_encoder(self.checkpoint, config, device=self.device)
        self._model, self._no_model = self._load_model()
        self.transform = EncoderTransform(read_config(self.cfg), source.limits)
        self.extractor = FeatureExtractor(encoder, self.transform, POOLINGS)
        self.extractor.notes = {'source': str(self.checkpoint)}

    @property
    def config_name(self) -> str:
        """Return the path of the config, for people."""
        config = self.source.config
        return printable((config.filename or 'the config') if isinstance(config, Config) else config)

    @property
    def short_side(self) -> int:
        """Return the pixels to which the shorter side of images is resized before they are reconstructed."""
        preparation = self.transform.preparation
        return preparation.short_side or min(preparation.size)

    @property
    def encoder_name(self) -> str:
        """Return the class of the encoder and its architecture, such as ``'ViT (vit_base_patch16_224)'``."""
        config = self.cfg.model.get('encoder') or self.cfg.model.backbone
        arch = config.get('arch')
        return printable(config.type if arch is None else f'{config.type} ({arch})')

    @property
    def model(self) -> MaskedAutoencoder:
        """Return the whole model, for masked images.

        Raises:
            NotApplicable: If the checkpoint holds an encoder alone.
        """
        if self._model is None:
            raise NotApplicable(self._no_model)
        return self._model

    @cached_property
    def embeddings(self) -> Embeddings:
        """Return the vectors of the images that can be read, and why the others cannot.

        Raises:
            UserError: If none can be read, or one has other channels than the encoder takes.
        """
        items, names = self._listed
        found = self.extractor.embed(items, names, show_progress=False)
        if not len(found):
            refuse_none_read(len(items), found.skipped)
        return found

    @cached_property
    def images(self) -> Sample:
        """Return all images that can be read."""
        skipped = self.embeddings.skipped
        pairs = [(item, name) for item, name in zip(*self._listed, strict=True) if name not in skipped]
        note = format_count(len(pairs), 'image')
        if len(pairs) < self.total:
            note = f'{len(pairs):,} of {format_count(self.total, "image")}'
        return Sample([item for item, _ in pairs], [name for _, name in pairs], note)

    def sample(self, count: int) -> Sample:
        """Choose some of the images that can be read, at equal distances."""
        whole = self.images
        if len(whole.items) <= count:
            return whole
        chosen = spread_indices(len(whole.items), count)
        note = f'{count:,} of {format_count(self.total, "image")}, at equal distances'
        return Sample([whole.items[index] for index in chosen], [whole.names[index] for index in chosen], note)

    def _load_model(self) -> tuple[MaskedAutoencoder | None, str]:
        """Load the whole model; return it, or why there is none."""
        try:
            return load_autoencoder(self.checkpoint, self.device, self.cfg)[0], ''
        except UserError as error:  # the encoder fits, as it was loaded before
            return None, f'The checkpoint gives the encoder, but not the whole model with its decoder: {error}'
