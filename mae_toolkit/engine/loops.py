"""Loops: training that resumes within an epoch, and losses of held-out images under fixed masks."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.runner import EpochBasedTrainLoop, Runner
from mmengine.runner.base_loop import BaseLoop
from torch import Tensor, nn
from torch.utils.data import DataLoader

from mae_toolkit.engine._mmengine import end_training_at, finish_epoch, pass_over_iteration
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import SetsEpoch, SetsStart
from mae_toolkit.registry import LOOPS

LENGTH = 'iterations_per_epoch'


@LOOPS.register_module()
class EpochTrainLoop(EpochBasedTrainLoop):
    """Training loop over epochs, which resumes exactly where a checkpoint was saved, even within an epoch.

    The sampler skips the batches that the run has seen, so that they are not loaded. It needs ``set_epoch(epoch)`` and
    ``set_start(number of samples of this process to skip)``, or its batch sampler ``set_start(number of batches to
    skip)``.

    Args:
        runner: The runner.
        dataloader: The data loader of the training, or its config.
        max_epochs: Number of epochs.
        val_begin: First epoch after which there is a validation.
        val_interval: Epochs between two validations.
        dynamic_intervals: Other intervals from certain epochs on, as in MMEngine.
        end_iter: Number of iterations with which the training ends, within its last epoch; all of them if None.
            Schedules that count iterations end there, too. See :mod:`mae_toolkit.engine.minutes`.

    Raises:
        UserError: If there are fewer images than a batch needs.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        max_epochs: int,
        val_begin: int = 1,
        val_interval: int = 1,
        dynamic_intervals: Any = None,
        end_iter: int | None = None,
    ) -> None:
        counts = dict(max_epochs=max_epochs, val_interval=val_interval, end_iter=end_iter)
        for name, value in counts.items():
            if (value is not None or name != 'end_iter') and (not isinstance(value, int) or value < 1):
                raise UserError(f'train_cfg.{name}={value!r} must be a whole number of 1 or more.')
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        self.skips: list[tuple[int, int]] = []  # iterations to pass over: (first, end), without the end
        if not len(self.dataloader):
            raise UserError(
                f'A batch of {self.dataloader.batch_size} images is more than the {len(self.dataloader.sampler)} of an '
                'epoch: set a smaller batch_size, repeat of the dataset, or drop_last=False.'
            )
        if end_iter is not None:
            end_training_at(self, end_iter)

    def run(self) -> nn.Module:
        """Train to the last epoch, and return the model.

        Raises:
            UserError: If the resumed run had epochs of another length.
        """
        length, hub = len(self.dataloader), self.runner.message_hub
        before = hub.get_info(LENGTH, length)
        if self.iter and before != length:
            raise UserError(
                f'The checkpoint has {before} iterations per epoch, and this run {length}: resume with '
                'the same images, and with as many per step (batch_size times processes), or start anew with load_from.'
            )
        hub.update_info(LENGTH, length)
        return super().run()

    def run_epoch(self) -> None:
        """Train one epoch, or the rest of it.

        A checkpoint by iterations at the end of an epoch is saved before the epoch is closed. Resumed from there, the
        rest is empty, and the hooks at its end (schedules by epoch, validation) run as they would have.
        """
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = max(0, self.iter - self.epoch * len(self.dataloader))  # batch samplers may end early
        while self._is_skipped() and done < len(self.dataloader):
            pass_over_iteration(self)
            done += 1
        self._set_start(done)
        is_left = done < len(self.dataloader) and self.iter < self.max_iters
        for index, batch in enumerate(self.dataloader if is_left else (), done):  # no workers are started for nothing
            if self._is_skipped():
                pass_over_iteration(self)
            else:
                self.run_iter(index, batch)
            if self.iter >= self.max_iters:  # which may be within the last epoch
                break
        self.runner.call_hook('after_train_epoch')
        finish_epoch(self)

    def _is_skipped(self) -> bool:
        """Return whether the run passes over the iteration to come, see :class:`LossSpikeHook`."""
        return self.iter < self.max_iters and any(first <= self.iter < end for first, end in self.skips)

    def _set_start(self, done: int) -> None:
        """Let the sampler begin after the batches of this epoch that the run has seen."""
        sampler: Any = self.dataloader.sampler
        batch_sampler: Any = self.dataloader.batch_sampler
        if isinstance(batch_sampler, SetsStart):
            batch_sampler.set_epoch(self.epoch)  # type: ignore[attr-defined]
            batch_sampler.set_start(done)
            return
        if isinstance(sampler, SetsEpoch):
            sampler.set_epoch(self.epoch)
        if isinstance(sampler, SetsStart):
            sampler.set_start(done * self.dataloader.batch_size)
        elif done:
            raise UserError(
                f'The checkpoint lies {done} iterations within epoch {self.epoch + 1}, where a '
                f'{type(sampler).__name__} cannot begin: use EpochSampler, or resume from a checkpoint by epochs.'
            )


class LossLoop(BaseLoop):
    """Loop over held-out images that computes their losses, under masks that follow from a seed and an image's index.

    The result depends neither on the batch size nor on the number of processes. Images that cannot be read are left
    out of the mean; ``BrokenImagesHook`` names and counts them.

    Args:
        runner: The runner.
        dataloader: The data loader of the images, or its config; its sampler has to give each image once.
        evaluator: Ignored; MMEngine passes one to every loop.
        seed: Seed of the masks.
        dtype: Type to autocast to, such as ``'bfloat16'``; None for float32.

    Raises:
        UserError: If the sampler gives more samples than there are images.
    """

    stage: str

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict[str, Any],
        evaluator: Any = None,
        seed: int = 0,
        dtype: str | None = None,
    ) -> None:
        super().__init__(runner, dataloader)
        self.seed, self.dtype = seed, dtype
        total = torch.tensor(len(self.dataloader.sampler))
        all_reduce(total)
        if total > (images := len(self.dataloader.dataset)):
            raise UserError(
                f'The {self.stage} sampler gives {int(total)} samples of {images} images, some of them twice: '
                'set round_up=False in it.'
            )

    @torch.no_grad()
    def run(self) -> dict[str, float]:
        """Compute and return the mean losses by name, and their sum as ``loss``."""
        call, stage = self.runner.call_hook, self.stage
        call(f'before_{stage}')
        call(f'before_{stage}_epoch')
        self.runner.model.eval()
        sums: dict[str, float] = {}
        count = 0
        for batch_idx, (keys, batch) in enumerate(zip(self.dataloader.batch_sampler, self.dataloader, strict=True)):
            call(f'before_{stage}_iter', batch_idx=batch_idx, data_batch=batch)
            losses, size = self._compute_losses(*_keep_readable(batch, keys))
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss) * size
            count += size
            self._warn_unless_finite(losses, batch)
            call(f'after_{stage}_iter', batch_idx=batch_idx, data_batch=batch, outputs=losses)
        metrics = self._compute_means(sums, count)
        call(f'after_{stage}_epoch', metrics=metrics)
        call(f'after_{stage}')
        return metrics

    def _compute_losses(self, batch: dict[str, Any], keys: Sequence[Any]) -> tuple[dict[str, Tensor], int]:
        """Return the losses of a batch and the number of its images."""
        if not keys:
            return {}, 0
        model = unwrap(self.runner.model)
        imgs = model.data_preprocessor(batch, False)['imgs']  # (B, C, H, W)
        mask = draw_fixed_masks(model.masking, imgs, [self.seed + _get_index(key) for key in keys])
        dtype = self.dtype and getattr(torch, self.dtype)
        with torch.autocast(imgs.device.type, dtype) if dtype else nullcontext():
            return model(imgs, mask=mask, mode='loss'), len(imgs)

    def _warn_unless_finite(self, losses: dict[str, Tensor], batch: dict[str, Any]) -> None:
        bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
        if bad:
            names = ', '.join(batch.get('names', ()))
            self.runner.logger.warning(f'{self.stage}: {", ".join(bad)} is not finite for the images {names}.')

    def _compute_means(self, sums: dict[str, float], count: int) -> dict[str, float]:
        """Divide the sums of all processes by the number of images."""
        device = next(self.runner.model.parameters()).device
        totals = torch.tensor([count, *sums.values()], dtype=torch.float64, device=device)
        if get_world_size() > 1:
            names = _find_common_names(sums)
            totals = torch.tensor([count, *(sums.get(name, 0.0) for name in names)], dtype=torch.float64, device=device)
            all_reduce(totals)
            sums = dict.fromkeys(names, 0.0)
        if not totals[0]:
            raise UserError(f'No image could be read for the {self.stage} loss: give the folder of held-out images.')
        means = dict(zip(sums, (totals[1:] / totals[0]).tolist(), strict=True))
        return means | {'loss': sum(means.values())}


@LOOPS.register_module()
class MAEValLoop(LossLoop):
    """Loop that computes losses of held-out images during training, logged as ``val/loss_<objective>``."""

    stage = 'val'


@LOOPS.register_module()
class MAETestLoop(LossLoop):
    """Loop that computes losses of held-out images for a trained model, logged as ``test/loss_<objective>``."""

    stage = 'test'


def draw_fixed_masks(masking: nn.Module, imgs: Tensor, seeds: Sequence[int]) -> Tensor:
    """Draw a mask for each image with its own seed, without an effect on torch's generators.

    Args:
        masking: A :class:`Masking`.
        imgs: (B, C, H, W) images.
        seeds: Seed of each image.

    Returns:
        (B, 1, h, w) masks, True where hidden.
    """
    devices = [imgs.device] if imgs.device.type == 'cuda' else []
    with torch.random.fork_rng(devices):
        return torch.cat([_draw_mask(masking, img, seed) for img, seed in zip(imgs.split(1), seeds, strict=True)])


def _keep_readable(batch: dict[str, Any], keys: Sequence[Any]) -> tuple[dict[str, Any], Sequence[Any]]:
    """Remove from a batch and its keys the images that could not be read, in whose place others stand."""
    replaced = batch.get('replaced') or [False] * len(keys)
    kept = [i for i, other in enumerate(replaced) if not other]
    if len(kept) == len(keys):
        return batch, keys
    return {'imgs': batch['imgs'][kept]}, [keys[i] for i in kept]


def _get_index(key: Any) -> int:
    """Return the index of an image; EpochSampler gives (epoch, index)."""
    return key[1] if isinstance(key, tuple) else key


def _draw_mask(masking: nn.Module, img: Tensor, seed: int) -> Tensor:
    torch.manual_seed(seed)
    return masking(img)


def _find_common_names(sums: dict[str, float]) -> list[str]:
    """Return the names of the losses in the same order in all processes; a process without images knows none."""
    everyone: list[Any] = [None] * get_world_size()
    torch.distributed.all_gather_object(everyone, list(sums))
    return max(everyone, key=len)
