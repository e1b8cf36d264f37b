"""The base class of predictors, which run a trained model on an image: a file or an array."""

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from PIL import Image
from torch import nn

from mae_toolkit.checkpoints import files as checkpoint_files
from mae_toolkit.checkpoints.source import find_source
from mae_toolkit.checkpoints.weights import take_weights
from mae_toolkit.config.difference import warn_of_differences
from mae_toolkit.datasets import BrokenImageError, ImageLimits
from mae_toolkit.datasets.any_image import ImageLike, as_image_file, check_finite
from mae_toolkit.datasets.image_io import ImageFile, decode_image
from mae_toolkit.datasets.image_limits import DEFAULT_LIMITS
from mae_toolkit.datasets.image_pipeline import convert_channels
from mae_toolkit.engine.classes import check_classes
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.registry import SCOPE
from mae_toolkit.visualization import to_rgb
from mae_toolkit.visualization.predictions import choose_colors
from mae_toolkit.visualization.reconstruction import find_display_range

Color = tuple[int, int, int]


class Predictor:
    """Base class of the predictors: predict on one image, and show or write the result.

    Example::

        predictor = load_predictor(load_config('config.py'), 'iter_500.pth')
        result = predictor('photo.jpg')
        predictor.to_dict(result)  # plain values
        predictor.draw('photo.jpg', result).save('result.png')

    Args:
        cfg: Config of the model; its test pipeline prepares the images.
        checkpoint: Checkpoint of its training, or the folder of the run.
        device: Device to predict on.
        limits: Largest image that is decoded; by default that of the test dataset.

    Attributes:
        task: The task of the model: ``'detection'``, ``'segmentation'`` or ``'classification'``.
        limits: Largest image that is decoded.
        model: The model, in evaluation mode.
        classes: Names of the classes, in the order of their numbers.
        colors: Red, green and blue (0 to 255) of each class.
    """

    task: str
    model: Any  # a module of MMEngine, with methods such as test_step

    def __init__(
        self, cfg: Config, checkpoint: str | Path, device: str = 'cpu', limits: ImageLimits | None = None
    ) -> None:
        given, cfg = cfg, copy.deepcopy(cfg)  # MMDetection adds to the config from which it builds
        init_default_scope(cfg.get('default_scope', SCOPE))
        dataset = find_test_dataset(cfg)
        self.limits = limits or _limits_of(dataset)
        self.model = self._build(cfg)
        source = find_source(checkpoint)
        saved = checkpoint_files.load(source.path)
        warn_of_differences(source.path, saved, given)
        state = take_weights(source, saved).by_own_names()
        checkpoint_files.check_fit(source, state, self.model)
        self.model.load_state_dict(state, strict=False)  # counters of batch norms may be lacking
        self.model.to(device).eval()
        info = self._read_class_info(dataset)
        known = check_classes(source.path, saved, info.get('classes'))
        self.classes = [str(name) for name in known or info.get('classes') or ()]
        self.colors = choose_class_colors(self.classes, info.get('palette'))
        self._prepare_pipeline(dataset['pipeline'])

    @torch.inference_mode()
    def __call__(self, image: ImageLike) -> Any:
        """Predict on an image.

        Args:
            image: A file, or an image (H, W) or (H, W, C) with red first, as
                :func:`~mae_toolkit.datasets.read_image` returns it.

        Returns:
            What :meth:`to_dict`, :meth:`draw` and :meth:`maps` accept.

        Raises:
            BrokenImageError: If a file cannot be read, or its image cannot be predicted on.
            UserError: If the image has other channels than the model accepts.
        """
        return self._predict(as_image_file(image, self.limits))

    def to_dict(self, result: Any) -> dict[str, Any]:
        """Convert a result to plain values, as they are written to ``predictions.json``."""
        raise NotImplementedError

    def draw(self, image: ImageLike, result: Any, side: int | None = None) -> Image.Image:
        """Draw a result on its image.

        Args:
            image: The image that was predicted on.
            result: What was predicted.
            side: Pixels of the longer side of the picture; its own size, or a multiple of a small one, if None.
        """
        raise NotImplementedError

    def maps(self, result: Any) -> dict[str, Image.Image]:
        """Return pictures by name that hold a result itself, such as the class of every pixel; none by default."""
        return {}

    def _predict(self, file: ImageFile) -> Any:
        raise NotImplementedError

    def _build(self, cfg: Config) -> nn.Module:
        """Build the model of a config of MMDetection or MMSegmentation."""
        with wrap_build_error('The model'):
            return mmengine_registry.MODELS.build(cfg.model)

    def _read_class_info(self, dataset: dict[str, Any]) -> dict[str, Any]:
        """Return ``classes`` and ``palette`` of a dataset; its files need not exist."""
        with wrap_build_error('The dataset'):
            built = mmengine_registry.DATASETS.build({**dataset, 'pipeline': [], 'lazy_init': True})
        given = built.METAINFO | (dataset.get('metainfo') or {})  # MMSegmentation would invent colors
        return {'classes': built.metainfo.get('classes'), 'palette': given.get('palette')}

    def _prepare_pipeline(self, pipeline: Sequence[dict[str, Any]]) -> None:
        """Build a pipeline of MMDetection or MMSegmentation, without the steps that load image and annotations."""
        loader, *steps = [step for step in pipeline if 'Annotations' not in str(step['type'])]
        if not str(loader['type']).endswith('LoadImageFromFile') or loader.get('color_type', 'color') != 'color':
            raise UserError(
                f'The test pipeline begins with {dict(loader)}; predictions are made where it begins with '
                "dict(type='LoadImageFromFile'), in color."
            )
        self._dtype = np.float32 if loader.get('to_float32') else None
        self._steps = Compose(steps)

    def _predict_sample(self, file: ImageFile) -> Any:
        """Return the data sample that a model of MMDetection or MMSegmentation predicts for an image."""
        image = convert_channels(decode_image(file), 3, str(file.path), file.size)
        if image.dtype == np.uint16:  # as OpenCV reads such files, on which the model was trained
            image = (image >> 8).astype(np.uint8)
        image = np.ascontiguousarray(image[..., ::-1], self._dtype)  # blue first
        size = image.shape[:2]
        name = str(file.path)
        check_finite(image, name)
        try:
            packed = self._steps({'img': image, 'img_shape': size, 'ori_shape': size, 'img_path': name, 'img_id': 0})
        except cv2.error as error:
            reason = ' '.join(str(error).split())
            raise BrokenImageError(
                name, f'its {size[0]} x {size[1]} pixels cannot pass the pipeline: {reason}'
            ) from error
        return self.model.test_step({key: [value] for key, value in packed.items()})[0]

    def _class_name(self, number: int) -> str:
        if number >= len(self.classes):
            raise UserError(
                f'The model predicts class {number}, but {len(self.classes)} classes have names, 0 to '
                f'{len(self.classes) - 1}: set metainfo=dict(classes=...) of the dataset.'
            )
        return self.classes[number]


def find_test_dataset(cfg: Config) -> dict[str, Any]:
    """Return the config of the dataset on which a model is tested, else validated; of several, the first.

    Raises:
        UserError: If the config has neither.
    """
    loader = cfg.get('test_dataloader') or cfg.get('val_dataloader')
    if loader is None:
        raise UserError(
            'The config has neither test_dataloader nor val_dataloader: its pipeline would say how images are prepared.'
        )
    dataset = loader['dataset']
    while 'pipeline' not in dataset and ('dataset' in dataset or 'datasets' in dataset):
        dataset = dataset['dataset'] if 'dataset' in dataset else dataset['datasets'][0]
    return dataset


def _limits_of(dataset: dict[str, Any]) -> ImageLimits:
    """Return the limits that the config of a dataset sets, or the default ones."""
    given = {name: dataset[f'max_{name}'] for name in ('pixels', 'bytes') if dataset.get(f'max_{name}') is not None}
    return ImageLimits(**given)


def to_display_rgb(image: ImageLike, limits: ImageLimits = DEFAULT_LIMITS) -> np.ndarray:
    """Convert an image of any kind and number of channels to a picture (H, W, 3) uint8.

    Args:
        image: The image.
        limits: Largest image that is decoded.
    """
    channels = decode_image(as_image_file(image, limits)).transpose(2, 0, 1)
    channels = channels[:-1] if len(channels) in (2, 4) else channels  # the last is alpha
    return to_rgb(channels, *find_display_range(channels))


def choose_class_colors(classes: Sequence[str], palette: Sequence[Sequence[int]] | str | None) -> list[Color]:
    """Return a color for each class: the dataset's own if it has one for each, else distinct ones.

    Args:
        classes: Names of the classes; one that is named ``background`` becomes black where colors are chosen.
        palette: Red, green and blue (0 to 255) of each class, as a dataset has it.
    """
    if palette is not None and len(palette) == len(classes) and not isinstance(palette, str):
        return [(int(red), int(green), int(blue)) for red, green, blue in palette]
    others = iter(choose_colors(len(classes)))
    return [(0, 0, 0) if name == 'background' else next(others) for name in classes]
