"""Grids of reconstructions while training."""

from pathlib import Path

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook

from mae_toolkit import visualization  # it imports the models, and these this package: its names are read later
from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Writes original, masked image, prediction and error of the same few images, always under the same masks.

    The images are of the held-out ones, or of the training set where there is no validation. The grids are
    ``reconstructions/epoch_N.png`` in the work directory; the last one is also ``reconstruction.png``. What the model
    predicted before training stands beside what it predicts now. These are the weights that are trained; a moving
    average of them (``EMAHook``) is in the checkpoints. A model that predicts no picture has none, and the log says so.

    Args:
        interval (int): Epochs between two grids; the first is written before training, the last after it.
        num_images (int): Rows of the grid: so many images, spread evenly over all.
        indices (tuple[int, ...] | None): Images to show instead.
        seed (int): Of the masks.
        side (int): Pixels of the longer side of each picture.
    """

    priority = 'VERY_LOW'

    def __init__(self, interval=10, num_images=6, indices=None, seed=0, side=160):
        given = dict(interval=interval, num_images=num_images, indices=indices, seed=seed, side=side)
        check_ranges('ReconstructionHook: ', given, HOOK)
        self.interval, self.num_images, self.indices = interval, num_images, indices
        self.seed, self.side = seed, side

    @master_only
    def before_train(self, runner):
        """Show what the model knows before training."""
        model = unwrap(runner.model)
        self._shows = visualization.reconstruction.find_shown_objective(model) is not None
        if not self._shows:
            runner.logger.info(visualization.reconstruction.explain_nothing_shown(model))
            return
        self._check_indices(runner)
        if runner.iter == 0:
            self._write(runner)

    @master_only
    def after_train_epoch(self, runner):
        """Write a grid every ``interval`` epochs."""
        if self._shows and self.every_n_epochs(runner, self.interval) and runner.epoch + 1 < runner.max_epochs:
            self._write(runner, runner.epoch + 1)

    @master_only
    def after_train(self, runner):
        """Write the last grid."""
        if self._shows:
            self._write(runner, runner.epoch)

    def _check_indices(self, runner):
        total = len(_images(runner))
        beyond = [i for i in self.indices or () if i >= total]
        if beyond and len(beyond) == len(self.indices):
            raise UserError(
                f'ReconstructionHook: there are {total} images, 0 to {total - 1}, and indices={tuple(self.indices)}: '
                'choose others, or leave indices out.'
            )
        if beyond:
            runner.logger.warning(f'ReconstructionHook leaves out the indices {beyond}: there are {total} images.')

    def _write(self, runner, epoch=0):
        model, dataset = unwrap(runner.model), _images(runner)
        rows = reconstructions(model, dataset, self._chosen(len(dataset)), self.seed)
        folder = Path(runner.work_dir) / 'reconstructions'
        folder.mkdir(exist_ok=True)
        rows = _beside_the_first(rows, folder / 'before_training.npz', is_first=epoch == 0)
        sheet = visualization.make_picture_grid([list(row.values()) for row in rows], list(rows[0]), self.side)
        sheet.save(folder / f'epoch_{epoch:04d}.png')
        sheet.save(Path(runner.work_dir) / 'reconstruction.png')
        runner.visualizer.add_image('reconstruction', np.asarray(sheet), runner.iter)

    def _chosen(self, total):
        if self.indices is not None:
            return [i for i in self.indices if i < total]
        count = min(self.num_images, total)
        return [i * total // count for i in range(count)]


def _images(runner):
    """The images that are shown: those of validation, or of training where there is none."""
    return (runner.train_dataloader if runner.val_loop is None else runner.val_dataloader).dataset


def reconstructions(model, dataset, indices, seed):
    """Rows of :func:`pictures` for images of a dataset, masks drawn per image from the seed.

    The model is left in the mode in which it came, the random numbers as they were.
    """
    items = [dataset[i] for i in indices]
    device = next(model.parameters()).device
    training = model.training
    model.eval()
    rows = []
    with torch.random.fork_rng([device] if device.type == 'cuda' else []):
        for i, item in enumerate(items):
            torch.manual_seed(seed + i)
            batch = {'imgs': item['img'][None], 'names': [item['name']], 'broken': []}
            imgs = model.data_preprocessor(batch, False)['imgs']
            seen = visualization.reconstruct(model, imgs)
            rows.append(visualization.reconstruction.draw_reconstruction(seen, 0, model.data_preprocessor))
    model.train(training)
    return rows


def _beside_the_first(rows, path, is_first):
    """Keep the first predictions of a run in a file, also for when it is resumed, and put them into later rows."""
    if is_first:
        np.savez_compressed(path, *(row['prediction'] for row in rows))
    if is_first or not path.exists():
        return rows
    with np.load(path) as first:
        before = [first[name] for name in first.files]
    if [picture.shape for picture in before] != [row['prediction'].shape for row in rows]:
        return rows
    leading = ('original', 'masked')
    return [
        {name: row[name] for name in leading} | {'prediction before training': picture} | row
        for row, picture in zip(rows, before, strict=True)
    ]
