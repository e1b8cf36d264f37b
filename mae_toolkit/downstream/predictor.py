"""What trained models of all tasks share in predicting on an image: a file, or an array."""

import copy
from pathlib import Path

import cv2
import numpy as np
import torch
from mmengine import registry as mmengine_registry
from mmengine.dataset import Compose
from mmengine.registry import init_default_scope
from torch.nn import Module

from mae_toolkit.checkpoints import files as checkpoint_files
from mae_toolkit.config.difference import warn_of_differences
from mae_toolkit.datasets import BrokenImageError, ImageLimits, open_image
from mae_toolkit.datasets.image_dataset import convert_channels
from mae_toolkit.datasets.image_io import DEFAULT_LIMITS, DecodedFile, ImageFile, decode_image
from mae_toolkit.engine.classes import check_classes
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.registry import SCOPE
from mae_toolkit.visualization import to_rgb
from mae_toolkit.visualization.predictions import distinct_colors
from mae_toolkit.visualization.reconstruction import display_range


class Predictor:
    """A function of one image, in three parts: to predict, to tell, and to draw.

    Args:
        cfg (Config), checkpoint (str), device (str), limits (ImageLimits | None): See :func:`load_predictor`.

    Attributes:
        task (str): What it does.
        limits (ImageLimits): The largest image that is decoded.
        model (nn.Module): In evaluation mode.
        classes (list[str]): Names of the classes by their numbers.
        colors (list[tuple]): Red, green, blue of each.
    """

    task: str
    model: Module

    def __init__(self, cfg, checkpoint, device='cpu', limits=None):
        given, cfg = cfg, copy.deepcopy(cfg)  # MMDetection adds to the config from which it builds
        init_default_scope(cfg.get('default_scope', SCOPE))
        dataset = held_out(cfg)
        self.limits = limits or _limits_of(dataset)
        self.model = self._build(cfg)
        saved = checkpoint_files.load(checkpoint)
        warn_of_differences(checkpoint, saved, given)
        state = checkpoint_files.weights_of(checkpoint, saved)
        checkpoint_files.check_fit(checkpoint, state, self.model)
        self.model.load_state_dict(state)
        self.model.to(device).eval()
        about = self._about(dataset)
        known = check_classes(checkpoint, saved, about.get('classes'))
        self.classes = [str(name) for name in known or about.get('classes') or ()]
        self.colors = class_colors(self.classes, about.get('palette'))
        self._prepare_for(dataset['pipeline'])

    @torch.inference_mode()
    def __call__(self, image):
        """Predict.

        Args:
            image (str | Path | ImageFile | ndarray | Image): A file, or an image (H, W) or (H, W, C), red first, as
                :func:`~mae_toolkit.datasets.read_image` gives it.

        Returns:
            What :meth:`tell` and :meth:`draw` take.

        Raises:
            BrokenImageError: If a file cannot be read, or what is in it cannot be predicted on.
            UserError: If the image has other channels than the model takes.
        """
        return self._predict(as_image_file(image, self.limits))

    def to_dict(self, result):
        """A result as plain values, as ``predictions.json`` has it."""
        raise NotImplementedError

    def draw(self, image, result, side=None):
        """A result on the picture, as a Pillow image; ``side`` is the number of pixels of its longer side."""
        raise NotImplementedError

    def maps(self, result):
        """Pillow images that belong to a result, by name, to be kept beside the picture."""
        return {}

    def _build(self, cfg):
        """The model, as a config of the scope of MMDetection or MMSegmentation says it."""
        with wrap_build_error('The model'):
            return mmengine_registry.MODELS.build(cfg.model)

    def _about(self, dataset):
        """What the dataset says of its classes; its files are not looked for."""
        with wrap_build_error('The dataset'):
            built = mmengine_registry.DATASETS.build({**dataset, 'pipeline': [], 'lazy_init': True})
        given = built.METAINFO | (dataset.get('metainfo') or {})  # MMSegmentation would draw colors that are not given
        return {'classes': built.metainfo.get('classes'), 'palette': given.get('palette')}

    def _prepare_for(self, pipeline):
        """Take over a pipeline as MMDetection and MMSegmentation have it, without what loads image and annotations."""
        loader, *steps = [step for step in pipeline if 'Annotations' not in str(step['type'])]
        if not str(loader['type']).endswith('LoadImageFromFile') or loader.get('color_type', 'color') != 'color':
            raise UserError(
                f'The test pipeline begins with {dict(loader)}; predictions are made where it begins with '
                "dict(type='LoadImageFromFile'), in color."
            )
        self._dtype = np.float32 if loader.get('to_float32') else None
        self._steps = Compose(steps)

    def _sample(self, file):
        """What MMDetection's or MMSegmentation's model predicts of an opened image."""
        image = convert_channels(decode_image(file), 3, str(file.path), file.size)
        if image.dtype == np.uint16:  # as OpenCV reads such files, with which the model was trained
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
                name, f'its {size[0]} x {size[1]} pixels do not go through the pipeline: {reason}'
            ) from error
        return self.model.test_step({key: [value] for key, value in packed.items()})[0]

    def _name(self, number):
        if number >= len(self.classes):
            raise UserError(
                f'The model predicts class {number}, and {len(self.classes)} classes have names, 0 to '
                f'{len(self.classes) - 1}: set metainfo=dict(classes=...) of the dataset.'
            )
        return self.classes[number]


def held_out(cfg):
    """The config of the dataset on which a model is tested, or else validated; of several, the first.

    Raises:
        UserError: If there is neither.
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


def _limits_of(dataset):
    """The limits that the config of a dataset of ours sets, or the usual ones."""
    given = {name: dataset[f'max_{name}'] for name in ('pixels', 'bytes') if dataset.get(f'max_{name}') is not None}
    return ImageLimits(**given)


def as_image_file(image, limits=DEFAULT_LIMITS):
    """An :class:`ImageFile` of a path, or of an image (H, W) or (H, W, C) in memory; an open one stays so."""
    if isinstance(image, ImageFile):
        return image
    if isinstance(image, str | Path):
        return open_image(image, limits)
    image = np.asarray(image)
    image = image[..., None] if image.ndim == 2 else image
    if image.ndim != 3 or image.dtype not in (np.uint8, np.uint16, np.float32):
        raise UserError(
            f'An image is an array (H, W) or (H, W, C) of uint8, uint16 or float32, not {image.shape} of {image.dtype}.'
        )
    return DecodedFile('the array', image)


def check_finite(image: np.ndarray, name: str | Path) -> None:
    """Refuse an image with pixels that are infinite or no numbers.

    Raises:
        BrokenImageError: Naming it.
    """
    if image.dtype.kind == 'f' and not np.isfinite(image).all():
        raise BrokenImageError(name, 'it holds pixels that are not finite')


def to_display_rgb(image, limits=DEFAULT_LIMITS):
    """An image of whatever kind as a picture (H, W, 3) uint8."""
    channels = decode_image(as_image_file(image, limits)).transpose(2, 0, 1)
    channels = channels[:-1] if len(channels) in (2, 4) else channels  # the last is alpha
    return to_rgb(channels, *display_range(channels))


def class_colors(classes, palette):
    """The dataset's own colors if there is one for each class, else distinct ones; black for the background."""
    if palette is not None and len(palette) == len(classes) and not isinstance(palette, str):
        return [tuple(map(int, color)) for color in palette]
    others = iter(distinct_colors(len(classes)))
    return [(0, 0, 0) if name == 'background' else next(others) for name in classes]
