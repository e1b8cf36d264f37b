"""Keep the running statistics of batch norms right for whole images."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from mmengine.hooks import EMAHook, Hook
from mmengine.runner import Runner
from torch import Tensor

from mae_toolkit.argument_ranges import HOOK, check_ranges
from mae_toolkit.checkpoints.files import MASKED_NORMS
from mae_toolkit.engine._mmengine import get_resume
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.fsdp import whole_model
from mae_toolkit.engine.loops import LossLoop
from mae_toolkit.evaluation.batch_norm import (
    Statistics,
    find_batch_norms,
    has_statistics,
    keep_statistics,
    measure_batch_norm,
    recalibrate_batch_norm,
)
from mae_toolkit.models.build import set_statistics
from mae_toolkit.registry import HOOKS
from mae_toolkit.spread import spread_indices

BATCH = 32


@HOOKS.register_module()
class BatchNormStatisticsHook(Hook):
    """Hook that gives the encoder's batch norms the statistics of whole images wherever whole images are encoded.

    In masked training, running statistics follow what is visible of masked images. Training does not use them, but
    whoever encodes whole images does, and gets other features by them. So there are two sets of them:

    - Those of **masked** images stay in the model while it trains: the losses of held-out images under masks, and
      reconstructions, need them, and nothing changes in them by this hook. Checkpoints hold them beside the weights,
      from where a resumed run takes them, and so do the losses of a test.
    - Those of **whole** training images (PreciseBN, see :func:`~mae_toolkit.evaluation.recalibrate_batch_norm`) are
      what checkpoints hold among the weights, what :meth:`whole_images` sets for a while, and what the model has when
      the training is over: whoever loads an encoder needs nothing else.

    Norms that follow nothing, as they are frozen or ``norm_eval`` is set, keep what they were loaded with. That is
    better where a training goes on from public weights: on images of one kind, statistics of own images, whole or
    masked, take accuracy from features of ImageNet (docs/continue.md). Without batch norms in the encoder, or for a
    model without masks, the hook does nothing.

    Args:
        images: Training images to measure on, at equal distances in the dataset, with the augmentation of its first
            epoch. They are kept in memory.
    """

    priority = 'LOWEST'  # after all that looks at masked images, and after EMAHook has chosen the weights to save

    def __init__(self, images: int = 256) -> None:
        check_ranges('BatchNormStatisticsHook: ', dict(images=images), HOOK)
        self.images = images
        self._followers: set[str] = set()  # names of norms whose running statistics have followed masked images
        self._loaded: dict[str, Tensor] = {}
        self._batches: list[Mapping[str, Any]] = []

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the statistics of masked images in a checkpoint."""
        loaded = checkpoint.get(MASKED_NORMS)
        self._loaded = loaded if isinstance(loaded, dict) else {}

    def before_run(self, runner: Runner) -> None:
        """Find the norms, before another hook asks for :meth:`whole_images`."""
        model = unwrap(runner.model)
        self._norms = find_batch_norms(model.encoder) if hasattr(model, 'masking') else {}

    def before_train(self, runner: Runner) -> None:
        """Let a resumed run go on with its own statistics."""
        if get_resume(runner):
            self._restore(runner)
        self._loaded = {}

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note which norms follow the images of this iteration."""
        self._followers |= {name for name, norm in self._norms.items() if norm.training}

    def before_test(self, runner: Runner) -> None:
        """Measure losses under masks with the statistics of masked images, as in training."""
        if isinstance(runner.test_loop, LossLoop):
            self._restore(runner)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Put the statistics of whole images among the weights, and those of masked images beside them."""
        if not self._followers:
            return
        encoder, state = unwrap(runner.model).encoder, checkpoint['state_dict']
        own = encoder.state_dict()
        chosen = self._choose(runner).items()
        names = [f'{name}.{buffer}' for name, norm in chosen for buffer, _ in norm.named_buffers(recurse=False)]
        checkpoint[MASKED_NORMS] = {name: own[name].cpu().clone() for name in names}
        averaged = any(isinstance(hook, EMAHook) for hook in runner.hooks)
        with _weights(encoder, state) if averaged else nullcontext():
            measured = self._measure(runner)
        for name, (mean, variance) in measured.items():  # new tensors, as those in the state may be the model's
            for buffer, value in (('running_mean', mean), ('running_var', variance)):
                key = f'encoder.{name}.{buffer}'
                state[key] = value.to(state[key])

    def after_train(self, runner: Runner) -> None:
        """Leave the model with the statistics of whole images."""
        if self._followers:
            with whole_model(runner.model):
                norms = self._choose(runner)
                recalibrate_batch_norm(unwrap(runner.model), self._load(runner), self.images, norms)

    @contextmanager
    def whole_images(self, runner: Runner) -> Iterator[None]:
        """Let the encoder be judged on whole images in a ``with`` block; its statistics are restored after it.

        Norms that have followed nothing yet, as in a network without weights, are measured, too.

        Args:
            runner: The runner of the training.
        """
        norms = self._choose(runner) | {name: norm for name, norm in self._norms.items() if not has_statistics(norm)}
        with keep_statistics(norms.values()):
            if norms:
                recalibrate_batch_norm(unwrap(runner.model), self._load(runner), self.images, norms)
            yield

    def _choose(self, runner: Runner) -> dict[str, Any]:
        """Return the norms that follow masked images, of the model as it is now: sharded, or whole for a while."""
        encoder = unwrap(runner.model).encoder
        return {name: encoder.get_submodule(name) for name in self._norms if name in self._followers}

    def _measure(self, runner: Runner) -> Statistics:
        return measure_batch_norm(unwrap(runner.model), self._load(runner), self.images, self._choose(runner))

    def _restore(self, runner: Runner) -> None:
        """Put the statistics of masked images that a checkpoint holds into the encoder."""
        for name in set_statistics(unwrap(runner.model), self._loaded):
            self._followers.add(name.rsplit('.', 1)[0])

    def _load(self, runner: Runner) -> list[Mapping[str, Any]]:
        """Load the images once: batches as the loader of the training makes them."""
        if not self._batches:
            loader = runner.train_dataloader
            indices = spread_indices(len(loader.dataset), self.images)
            parts = [indices[i : i + BATCH] for i in range(0, len(indices), BATCH)]
            devices = range(torch.cuda.device_count())
            with torch.random.fork_rng(devices):  # a dataset of another library draws from the global generators
                self._batches = [loader.collate_fn([loader.dataset[i] for i in part]) for part in parts]
        return self._batches


@contextmanager
def _weights(encoder: Any, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Give an encoder the weights of a model's state in a ``with`` block."""
    own = {name: tensor.clone() for name, tensor in encoder.state_dict().items()}
    encoder.load_state_dict({name: state[f'encoder.{name}'].clone() for name in own})
    try:
        yield
    finally:
        encoder.load_state_dict(own)
