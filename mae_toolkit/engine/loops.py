"""Loops: training that resumes within an epoch, and losses on held-out images with fixed masks."""

from contextlib import nullcontext

import torch
from mmengine.dist import all_reduce, get_world_size
from mmengine.runner import EpochBasedTrainLoop
from mmengine.runner.base_loop import BaseLoop

from mae_toolkit.engine._mmengine import finish_epoch
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import SetsEpoch, SetsStart
from mae_toolkit.registry import LOOPS

LENGTH = 'iterations_per_epoch'


@LOOPS.register_module()
class EpochTrainLoop(EpochBasedTrainLoop):
    """MMEngine's loop over epochs, resumed exactly where a checkpoint was saved, within an epoch too.

    The batches that the run has seen are skipped in the sampler, so nothing is loaded in vain. The sampler has
    ``set_epoch(epoch)`` and ``set_start(number of samples of this process to skip)``, or the batch sampler has
    ``set_start(number of batches to skip)``.

    Raises:
        UserError: If there are fewer images than a batch needs.
    """

    def __init__(self, runner, dataloader, max_epochs, val_begin=1, val_interval=1, dynamic_intervals=None):
        for name, value in (('max_epochs', max_epochs), ('val_interval', val_interval)):
            if not isinstance(value, int) or value < 1:
                raise UserError(f'train_cfg.{name}={value!r} is no whole number of 1 or more.')
        super().__init__(runner, dataloader, max_epochs, val_begin, val_interval, dynamic_intervals)
        if not len(self.dataloader):
            raise UserError(
                f'A batch of {self.dataloader.batch_size} images is more than the {len(self.dataloader.sampler)} of an '
                'epoch: set a smaller batch_size, repeat of the dataset, or drop_last=False.'
            )

    def run(self):
        """Train to the last epoch.

        Raises:
            UserError: If the resumed run had epochs of another length.
        """
        length, hub = len(self.dataloader), self.runner.message_hub
        before = hub.get_info(LENGTH, length)
        if self.iter and before != length:
            raise UserError(
                f'The checkpoint is of a run with {before} iterations per epoch, and here are {length}: resume with '
                'the same images, batch size and number of processes, or start anew with load_from.'
            )
        hub.update_info(LENGTH, length)
        return super().run()

    def run_epoch(self):
        """Train one epoch, or what is left of it.

        A checkpoint by iterations at the end of an epoch is saved before the epoch is closed: then nothing is left
        of it, and its hooks (schedulers by epoch, validation) run as they would have.
        """
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = max(0, self.iter - self.epoch * len(self.dataloader))  # a batch sampler may end before its length
        self._set_start(done)
        batches = self.dataloader if done < len(self.dataloader) else ()  # no workers are started for nothing
        for index, batch in enumerate(batches, done):
            self.run_iter(index, batch)
        self.runner.call_hook('after_train_epoch')
        finish_epoch(self)

    def _set_start(self, done):
        sampler, batch_sampler = self.dataloader.sampler, self.dataloader.batch_sampler
        if isinstance(batch_sampler, SetsStart):
            batch_sampler.set_epoch(self.epoch)
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
    """Losses on held-out images, per objective, with the mask of each image fixed by a seed and its index.

    So the result depends neither on the batch size nor on the number of processes. Images that cannot be read are left
    out of the mean; ``BrokenImagesHook`` names and counts them.

    Args:
        runner (Runner), dataloader (dict | DataLoader): As in MMEngine. The sampler gives each image once.
        evaluator: Not used; MMEngine hands one over.
        seed (int): Seed of the masks.
        dtype (str | None): Autocast to this type, such as 'bfloat16'.

    Raises:
        UserError: If the sampler gives more samples than there are images.
    """

    stage = None

    def __init__(self, runner, dataloader, evaluator=None, seed=0, dtype=None):
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
    def run(self):
        """Return the mean losses by name; their sum is 'loss'."""
        call, stage = self.runner.call_hook, self.stage
        call(f'before_{stage}')
        call(f'before_{stage}_epoch')
        self.runner.model.eval()
        sums, count = {}, 0
        for batch_idx, (keys, batch) in enumerate(zip(self.dataloader.batch_sampler, self.dataloader, strict=True)):
            call(f'before_{stage}_iter', batch_idx=batch_idx, data_batch=batch)
            losses, size = self._losses(*_readable(batch, keys))
            for name, loss in losses.items():
                sums[name] = sums.get(name, 0.0) + float(loss) * size
            count += size
            self._tell_unless_finite(losses, batch)
            call(f'after_{stage}_iter', batch_idx=batch_idx, data_batch=batch, outputs=losses)
        metrics = self._mean(sums, count)
        call(f'after_{stage}_epoch', metrics=metrics)
        call(f'after_{stage}')
        return metrics

    def _losses(self, batch, keys):
        if not keys:
            return {}, 0
        model = unwrap(self.runner.model)
        imgs = model.data_preprocessor(batch, False)['imgs']  # (B, C, H, W)
        mask = fixed_masks(model.masking, imgs, [self.seed + _index(key) for key in keys])
        dtype = self.dtype and getattr(torch, self.dtype)
        with torch.autocast(imgs.device.type, dtype) if dtype else nullcontext():
            return model(imgs, mask=mask, mode='loss'), len(imgs)

    def _tell_unless_finite(self, losses, batch):
        bad = [name for name, loss in losses.items() if not torch.isfinite(loss)]
        if bad:
            names = ', '.join(batch.get('names', ()))
            self.runner.logger.warning(f'{self.stage}: {", ".join(bad)} is not finite for the images {names}.')

    def _mean(self, sums, count):
        device = next(self.runner.model.parameters()).device
        totals = torch.tensor([count, *sums.values()], dtype=torch.float64, device=device)
        if get_world_size() > 1:
            names = _common_names(sums)
            totals = torch.tensor([count, *(sums.get(name, 0.0) for name in names)], dtype=torch.float64, device=device)
            all_reduce(totals)
            sums = dict.fromkeys(names)
        if not totals[0]:
            raise UserError(f'No image could be read for the {self.stage} loss: give the folder of held-out images.')
        means = dict(zip(sums, (totals[1:] / totals[0]).tolist(), strict=True))
        return means | {'loss': sum(means.values())}


@LOOPS.register_module()
class MAEValLoop(LossLoop):
    """Validation while training; the losses are logged as ``val/loss_<objective>``."""

    stage = 'val'


@LOOPS.register_module()
class MAETestLoop(LossLoop):
    """The same for a trained model; the losses are logged as ``test/loss_<objective>``."""

    stage = 'test'


def fixed_masks(masking, imgs, seeds):
    """Masks (B, 1, h, w) of images (B, C, H, W), each drawn with its own seed; other random numbers are left alone."""
    devices = [imgs.device] if imgs.device.type == 'cuda' else []
    with torch.random.fork_rng(devices):
        return torch.cat([_drawn(masking, img, seed) for img, seed in zip(imgs.split(1), seeds, strict=True)])


def _readable(batch, keys):
    """A batch and its keys without the images that others stand in for, as they could not be read."""
    replaced = batch.get('replaced') or [False] * len(keys)
    kept = [i for i, other in enumerate(replaced) if not other]
    if len(kept) == len(keys):
        return batch, keys
    return {'imgs': batch['imgs'][kept]}, [keys[i] for i in kept]


def _index(key):
    """Index of an image; EpochSampler gives (epoch, index)."""
    return key[1] if isinstance(key, tuple) else key


def _drawn(masking, img, seed):
    torch.manual_seed(seed)
    return masking(img)


def _common_names(sums):
    """Names in the same order in all processes; one that had no image knows none of them."""
    everyone = [None] * get_world_size()
    torch.distributed.all_gather_object(everyone, list(sums))
    return max(everyone, key=len)
