"""Write grids of reconstructions during training."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import master_only
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_toolkit import visualization  # it imports the models, and these this package: its names are read later
from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.fsdp import whole_model
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS
from mae_toolkit.spread import spread_indices


@HOOKS.register_module()
class ReconstructionHook(Hook):
    """Hook that writes original, masked image, prediction and error of a few images, always under the same masks.

    The images are held-out images, or training images where there is no validation. The grids are written to
    ``reconstructions/epoch_N.png`` in the work directory; the last one also to ``reconstruction.png``. The prediction
    before training is shown next to the current one. The weights are those that are trained, not their moving average
    (``EMAHook``). For a model that predicts no picture, the log says that there are no grids.

    Args:
        interval: Epochs between two grids; the first is written before training, the last after it.
        num_images: Number of images, at equal distances in the dataset.
        indices: Indices of the images to show instead.
        seed: Seed of the masks.
        side: Pixels of the longer side of each picture.
    """

    priority = 'VERY_LOW'

    def __init__(
        self,
        interval: int = 10,
        num_images: int = 6,
        indices: Sequence[int] | None = None,
        seed: int = 0,
        side: int = 160,
    ) -> None:
        given = dict(interval=interval, num_images=num_images, indices=indices, seed=seed, side=side)
        check_ranges('ReconstructionHook: ', given, HOOK)
        self.interval, self.num_images, self.indices = interval, num_images, indices
        self.seed, self.side = seed, side

    def before_train(self, runner: Runner) -> None:
        """Write the grid before training."""
        model = unwrap(runner.model)
        self._shows = visualization.reconstruction.find_shown_objective(model) is not None
        if not self._shows:
            runner.logger.info(visualization.reconstruction.explain_nothing_shown(model))
            return
        self._check_indices(runner)
        if runner.iter == 0:
            self._write(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Write a grid every ``interval`` epochs."""
        if self._shows and self.every_n_epochs(runner, self.interval) and runner.epoch + 1 < runner.max_epochs:
            self._write(runner, runner.epoch + 1)

    def after_train(self, runner: Runner) -> None:
        """Write the last grid."""
        if self._shows:
            self._write(runner, runner.epoch)

    def _check_indices(self, runner: Runner) -> None:
        total = len(_get_dataset(runner))
        indices = tuple(self.indices or ())
        beyond = [i for i in indices if i >= total]
        if beyond and len(beyond) == len(indices):
            raise UserError(
                f'ReconstructionHook: there are {total} images, 0 to {total - 1}, and indices={indices}: '
                'choose others, or leave indices out.'
            )
        if beyond:
            runner.logger.warning(f'ReconstructionHook leaves out the indices {beyond}: there are {total} images.')

    def _write(self, runner: Runner, epoch: int = 0) -> None:
        with whole_model(runner.model):  # all processes come here, and the main one writes
            self._write_whole(runner, epoch)

    @master_only
    def _write_whole(self, runner: Runner, epoch: int) -> None:
        model, dataset = unwrap(runner.model), _get_dataset(runner)
        rows = reconstruct_items(model, dataset, self._choose_indices(len(dataset)), self.seed)
        folder = Path(runner.work_dir) / 'reconstructions'
        folder.mkdir(exist_ok=True)
        rows = _add_first_predictions(rows, folder / 'before_training.npz', is_first=epoch == 0)
        sheet = visualization.make_picture_grid([list(row.values()) for row in rows], list(rows[0]), self.side)
        sheet.save(folder / f'epoch_{epoch:04d}.png')
        sheet.save(Path(runner.work_dir) / 'reconstruction.png')
        runner.visualizer.add_image('reconstruction', np.asarray(sheet), runner.iter)

    def _choose_indices(self, total: int) -> list[int]:
        if self.indices is not None:
            return [i for i in self.indices if i < total]
        return spread_indices(total, self.num_images)


def _get_dataset(runner: Runner) -> Any:
    """Return the dataset of the images to show: of the validation, or of training where there is no validation."""
    return (runner.train_dataloader if runner.val_loop is None else runner.val_dataloader).dataset


def reconstruct_items(model: Any, dataset: Any, indices: Sequence[int], seed: int) -> list[dict[str, np.ndarray]]:
    """Reconstruct images of a dataset, under masks that are drawn for each image from the seed.

    The model keeps its mode, and torch's generators are restored.

    Args:
        model: A :class:`MaskedAutoencoder`.
        dataset: An :class:`ImageDataset`.
        indices: Indices of the images.
        seed: Seed of the masks.

    Returns:
        For each image its pictures by heading, such as ``'original'`` and ``'prediction'``.
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


def _add_first_predictions(
    rows: list[dict[str, np.ndarray]], path: Path, is_first: bool
) -> list[dict[str, np.ndarray]]:
    """Save the first predictions of a run, also for when it is resumed, and add them to later rows."""
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
