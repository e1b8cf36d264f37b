"""Show the images of a config as a model gets them, for all tasks."""

import random
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine import registry as mmengine_registry
from mmengine.config import Config

from mae_toolkit.downstream.predictor import choose_class_colors
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.registry import SCOPE
from mae_toolkit.spread import spread_indices
from mae_toolkit.visualization import to_rgb
from mae_toolkit.visualization.annotations import draw_annotations, pad_to_largest
from mae_toolkit.visualization.predictions import Color
from mae_toolkit.visualization.reconstruction import find_display_range


class Browsed(NamedTuple):
    """What was drawn of a dataset.

    Attributes:
        pictures: Rows of pictures (H, W, 3) uint8, of one size in each row.
        images: Number of images in the dataset.
        broken: (name, reason) of each shown image that is broken, in whose place another is shown.
        colors: Color of each class by its name; empty without classes.
    """

    pictures: list[list[np.ndarray]]
    images: int
    broken: list[tuple[str, str]]
    colors: dict[str, Color]


def browse(cfg: Config, held_out: bool, rows: int, columns: int) -> Browsed:
    """Draw images of a dataset after its pipeline, several times each, with new random augmentations each time.

    Boxes, masks and labels of MMDetection's and MMSegmentation's datasets are drawn on the images.

    Args:
        cfg: Config of any task.
        held_out: Show the images of ``val_dataloader`` instead of ``train_dataloader``.
        rows: How many images to show at most, at equal distances in the dataset.
        columns: How often to show each image.

    Raises:
        UserError: If there is no such dataset, or its items are not images.
    """
    loader = cfg.get('val_dataloader' if held_out else 'train_dataloader')
    if loader is None:
        raise UserError(
            'The config has no val_dataloader: leave out --val.'
            if held_out
            else 'The config has no train_dataloader: show the held-out images with --val.'
        )
    with wrap_build_error('The dataset'):
        dataset = mmengine_registry.DATASETS.build(loader.dataset)
    places = spread_indices(len(dataset), rows)
    draw = _draw_ours if cfg.get('default_scope', SCOPE) == SCOPE else _AnnotatedDrawer(dataset, loader.dataset)
    broken: list[tuple[str, str]] = []
    pictures = []
    for place in places:
        row = [draw(dataset, epoch, place, broken) for epoch in range(columns)]
        pictures.append(pad_to_largest(row))
    colors = draw.colors if isinstance(draw, _AnnotatedDrawer) else {}
    return Browsed(pictures, len(dataset), list(dict.fromkeys(broken)), colors)


def _draw_ours(dataset: Any, epoch: int, place: int, broken: list[tuple[str, str]]) -> np.ndarray:
    """Draw an item of this toolkit's datasets, which get their random numbers from the epoch."""
    item = dataset[epoch, place]
    broken += map(tuple, item['broken'])
    return to_rgb(item['img'].numpy(), *find_display_range(item['img'].numpy()))


class _AnnotatedDrawer:
    """Drawer of items of MMDetection's and MMSegmentation's datasets, whose pipelines use global random generators."""

    def __init__(self, dataset: Any, given: Mapping[str, Any]) -> None:
        info = dataset.metainfo
        classes = list(info.get('classes') or ())
        # MMSegmentation's datasets make up colors, also of the background, where nobody chose any.
        chosen = getattr(dataset, 'METAINFO', {}) | dict(given.get('metainfo') or {})
        self._colors = choose_class_colors(classes, chosen.get('palette'))
        self.colors = dict(zip(classes, self._colors, strict=True))

    def __call__(self, dataset: Any, epoch: int, place: int, broken: list[tuple[str, str]]) -> np.ndarray:
        random.seed(epoch)
        np.random.seed([epoch, place])
        torch.manual_seed(epoch)
        item = dataset[place]
        if not isinstance(item, dict) or 'inputs' not in item or 'data_samples' not in item:
            raise UserError(
                f'{type(dataset).__name__} gives no "inputs" and "data_samples", which its pipeline makes when it ends '
                'in PackDetInputs or PackSegInputs.'
            )
        return draw_annotations(item['inputs'], item['data_samples'], self._colors or [(255, 0, 0)])
