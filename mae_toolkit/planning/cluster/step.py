"""Run a training step without memory, on fake tensors, and count what it computes and keeps."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from mae_toolkit.errors import UserError
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.models.build import build_model
from mae_toolkit.planning.cluster.operators import Operator, OperatorRecorder, Part
from mae_toolkit.planning.cluster.tracking import MemoryTracker, SavedTensors

DEVICE = 'cpu'  # of the fake tensors: autograd does not run on fake GPUs


@dataclass
class StepCount:
    """What one training step of a batch computes and keeps.

    Attributes:
        batch: Images of the step.
        operators: What ran, in order.
        backward_begins: Index of the first operator of the backward pass.
        saved: Bytes that autograd keeps from the forward pass, without parameters.
    """

    batch: int
    operators: list[Operator]
    backward_begins: int
    saved: int

    @property
    def flops(self) -> int:
        """Floating-point operations of the step, recomputed ones among them."""
        return sum(operator.flops for operator in self.operators)

    def scale(self, batch: int) -> StepCount:
        """Take what does not have the shape of a parameter to grow with the batch; sides of products stay."""
        ratio = batch / self.batch

        def parts(ours: list[Part]) -> list[Part]:
            return [part if part.fixed else replace(part, nbytes=round(part.nbytes * ratio)) for part in ours]

        operators = [
            replace(
                one,
                flops=round(one.flops * ratio),
                work=round(one.work * ratio),
                reads=parts(one.reads),
                writes=parts(one.writes),
            )
            for one in self.operators
        ]
        return replace(self, batch=batch, operators=operators, saved=round(self.saved * ratio))

    def extrapolate(self, other: StepCount, batch: int) -> StepCount:
        """Continue the line through two counts to another batch.

        Args:
            other: The count of another batch, of the same operators.
            batch: Images of the step that is asked for.
        """
        ratio = (batch - self.batch) / (other.batch - self.batch)

        def along(a: int, b: int) -> int:
            return max(0, round(a + (b - a) * ratio))

        def parts(ours: list[Part], theirs: list[Part]) -> list[Part]:
            return [replace(a, nbytes=along(a.nbytes, b.nbytes)) for a, b in zip(ours, theirs, strict=True)]

        operators = [
            replace(
                a,
                flops=along(a.flops, b.flops),
                work=along(a.work, b.work),
                sides=tuple(along(one, two) for one, two in zip(a.sides, b.sides, strict=True)),
                reads=parts(a.reads, b.reads),
                writes=parts(a.writes, b.writes),
            )
            for a, b in zip(self.operators, other.operators, strict=True)
        ]
        return replace(self, batch=batch, operators=operators, saved=along(self.saved, other.saved))


@dataclass(frozen=True)
class StepPeak:
    """The memory of a step beside the weights, in bytes, without ``torch.compile``.

    Attributes:
        forward: What is allocated when the forward pass has ended.
        peak: The greatest sum of all that is allocated; gradients are among it.
    """

    forward: int
    peak: int


class FakeStep:
    """The model of a config on fake tensors, whose training step can be counted for any batch.

    A model whose course depends on the values of a mask, as the grouped windows of GreenMIM's Swin do, cannot run on
    fake tensors; it is built for real, and its step runs on the CPU, with the operators of a CPU.

    Args:
        cfg: A config of pretraining.
        dtype: Type of autocast; ``float32`` for none.
        size: Height and width of the images.
        recompute: Whether the encoder recomputes activations (``with_cp``); as the config says if None.
        as_gpu: Whether to run the operators of a GPU, where the CPU has others.

    Attributes:
        model: The model.
        mode: Context in which it is used.
        is_fake: Whether its tensors are fake.
    """

    def __init__(
        self,
        cfg: Config,
        dtype: torch.dtype,
        size: tuple[int, int],
        recompute: bool | None = None,
        as_gpu: bool = True,
    ) -> None:
        self.cfg, self.dtype, self.size, self.as_gpu = copy.deepcopy(cfg), dtype, size, as_gpu
        if recompute is not None:
            self.cfg.model.encoder.with_cp = recompute
        self.is_fake = True
        self.mode: Any = FakeTensorMode(allow_non_fake_inputs=True)
        with torch.device('meta'):
            model = build_model(self.cfg)
        if not isinstance(model, MaskedAutoencoder):
            raise UserError(f'{type(model).__name__} is no masked autoencoder: only pretraining is planned.')
        with self.mode:
            self.model: Any = model.to_empty(device=DEVICE).train()

    def count_step(self, batch: int) -> StepCount:
        """Count the operators of a step, and what autograd keeps."""
        return self._try(self._count, batch)

    def measure_peak(self, batch: int) -> StepPeak:
        """Follow the memory of a step."""
        return self._try(self._measure_peak, batch)

    def _try(self, count: Callable[[int], Any], batch: int) -> Any:
        """Count on fake tensors; where the model cannot run on them, build it and count for real."""
        if self.is_fake:
            try:
                return count(batch)
            except RuntimeError:  # the base class of all that fake tensors raise where values are read
                self.is_fake, self.mode, self.as_gpu = False, nullcontext(), False
                self.model = build_model(self.cfg).train()
        return count(batch)

    def _measure_peak(self, batch: int) -> StepPeak:
        with self._counting():
            imgs = self._make_images(batch)
            memory = MemoryTracker([*self._weights(), imgs])
            with memory:
                loss = self._run_forward(imgs)
                forward = memory.current
                loss.backward()
            self.model.zero_grad()
        return StepPeak(forward, memory.peak)

    def _count(self, batch: int) -> StepCount:
        own, saved = self._weights(), SavedTensors()
        recorder = OperatorRecorder(self.model.parameters())
        with self._counting():
            imgs = self._make_images(batch)
            with recorder:
                with saved.hooks():
                    loss = self._run_forward(imgs)
                begins = len(recorder.operators)
                loss.backward()
            self.model.zero_grad()
        return StepCount(batch, recorder.operators, begins, saved.count(own))

    @contextmanager
    def _counting(self) -> Iterator[None]:
        with self.mode, _use_gpu_operators() if self.as_gpu else nullcontext():
            yield

    def _weights(self) -> list[Tensor]:
        return [*self.model.parameters(), *self.model.buffers()]

    def _make_images(self, batch: int) -> Tensor:
        return torch.randn(batch, self.model.encoder.in_chans, *self.size, device=DEVICE)

    def _run_forward(self, imgs: Tensor) -> Tensor:
        with make_autocast(DEVICE, self.dtype):
            losses = self.model(imgs, mode='loss')
        total: Any = sum(value for name, value in losses.items() if name.startswith('loss'))
        return total


def make_autocast(device: str, dtype: torch.dtype) -> AbstractContextManager:
    """Return the context of mixed precision; an empty one for float32."""
    return nullcontext() if dtype == torch.float32 else torch.autocast(device, dtype)


@contextmanager
def _use_gpu_operators() -> Iterator[None]:
    """Let modules use the operators that they use on a GPU although the fake tensors are on the CPU."""
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='TF32 acceleration')  # of Intel's GPUs
        with torch.backends.mkldnn.flags(enabled=False):
            yield
