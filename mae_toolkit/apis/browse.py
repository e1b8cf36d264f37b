"""The images of a config as a model gets them, for all tasks."""

import random

import numpy as np
import torch
from mmengine import registry as mmengine_registry
from mmengine.config import Config

from mae_toolkit.downstream.predictor import class_colors
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.registry import SCOPE
from mae_toolkit.visualization import to_rgb
from mae_toolkit.visualization.annotations import draw_annotations, pad_to_largest
from mae_toolkit.visualization.reconstruction import find_display_range


def browse(cfg: Config, held_out: bool, rows: int, columns: int) -> tuple[list[list[np.ndarray]], int, list]:
    """Show images of a dataset after its pipeline, as often as there are columns, with other random numbers each time.

    Boxes, masks and labels of MMDetection's and MMSegmentation's datasets are drawn on them.

    Args:
        cfg: Of any task.
        held_out: Images of ``val_dataloader`` instead of ``train_dataloader``.
        rows: Images at most, spread evenly over the dataset.
        columns: Times.

    Returns:
        Pictures (H, W, 3) uint8, of one size in each row; images of an epoch; (name, reason) of those among the shown
        that are broken, for which others stand in.

    Raises:
        UserError: If there is no such dataset, or it gives something else than images.
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
    count = min(rows, len(dataset))
    places = [i * len(dataset) // count for i in range(count)]
    show = _show_ours if cfg.get('default_scope', SCOPE) == SCOPE else _Annotated(dataset)
    broken: list[tuple[str, str]] = []
    pictures = []
    for place in places:
        row = [show(dataset, epoch, place, broken) for epoch in range(columns)]
        pictures.append(pad_to_largest(row))
    return pictures, len(dataset), list(dict.fromkeys(broken))


def _show_ours(dataset, epoch, place, broken):
    item = dataset[epoch, place]
    broken += map(tuple, item['broken'])
    return to_rgb(item['img'].numpy(), *find_display_range(item['img'].numpy()))


class _Annotated:
    """Draws items of MMDetection's and MMSegmentation's datasets, whose pipelines use the global random numbers."""

    def __init__(self, dataset):
        about = dataset.metainfo
        self._colors = class_colors(list(about.get('classes') or ()), about.get('palette'))

    def __call__(self, dataset, epoch, place, broken):
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
