"""Grids of reconstructions while training."""

from pathlib import Path

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper

from mae_toolkit.registry import HOOKS
from mae_toolkit.visualization import picture_grid, reconstruct
from mae_toolkit.visualization.reconstruction import pictures


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Writes original, masked image, prediction and error of the same few images, always under the same masks.

    The images are the first held-out ones, or the first of the training set where there is no validation. The grids
    are ``reconstructions/epoch_N.png`` in the work directory; the last one is also ``reconstruction.png``.

    Args:
        interval (int): Epochs between two grids; the first is written before training, the last after it.
        num_images (int): Rows of the grid.
        seed (int): Of the masks.
        side (int): Pixels of the longer side of each picture.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval=10, num_images=6, seed=0, side=160):
        self.interval, self.num_images, self.seed, self.side = interval, num_images, seed, side

    @master_only
    def before_train(self, runner):
        """Show what the model knows before training."""
        if runner.iter == 0:
            self._write(runner)

    @master_only
    def after_train_epoch(self, runner):
        """Write a grid every ``interval`` epochs."""
        if self.every_n_epochs(runner, self.interval) and runner.epoch + 1 < runner.max_epochs:
            self._write(runner, runner.epoch + 1)

    @master_only
    def after_train(self, runner):
        """Write the last grid."""
        self._write(runner, runner.epoch)

    def _write(self, runner, epoch=0):
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        loader = runner.val_dataloader if runner.val_dataloader is not None else runner.train_dataloader
        sheet = reconstruction_sheet(model, loader.dataset, self.num_images, self.seed, self.side)
        folder = Path(runner.work_dir) / 'reconstructions'
        folder.mkdir(exist_ok=True)
        sheet.save(folder / f'epoch_{epoch:04d}.png')
        sheet.save(Path(runner.work_dir) / 'reconstruction.png')
        runner.visualizer.add_image('reconstruction', np.asarray(sheet), runner.iter)


def reconstruction_sheet(model, dataset, num_images, seed, side):
    """A grid for images spread evenly over a dataset, masks drawn per image from the seed.

    The model is left in the mode in which it came, the random numbers as they were.
    """
    count = min(num_images, len(dataset))
    items = [dataset[i * len(dataset) // count] for i in range(count)]
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    rows = []
    with torch.random.fork_rng([device] if device.type == 'cuda' else []):
        for i, item in enumerate(items):
            torch.manual_seed(seed + i)
            batch = {'imgs': item['img'][None], 'names': [item['name']], 'broken': []}
            imgs = model.data_preprocessor(batch, False)['imgs']
            rows.append(pictures(reconstruct(model, imgs), 0, model.data_preprocessor))
    model.train(training)
    return picture_grid([list(row.values()) for row in rows], list(rows[0]), side)
