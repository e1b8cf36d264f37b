"""A training whose step is counted: its memory, its time and its traffic on any number of GPUs."""

from __future__ import annotations

import math
from functools import cached_property

import torch
from mmengine.config import Config

from mae_toolkit.planning.cluster.kernels import Kernel, fuse_kernels, list_kernels
from mae_toolkit.planning.cluster.rates import Rates
from mae_toolkit.planning.cluster.settings import Memory, Settings, StepTime, find_size
from mae_toolkit.planning.cluster.sizes import measure_sizes
from mae_toolkit.planning.cluster.step import FakeStep, StepCount, StepPeak
from mae_toolkit.planning.cluster.traffic import BUCKET, exposed_seconds, step_traffic, traffic_seconds

USABLE = 0.92  # share of the memory that is left beside CUDA, NCCL and what the allocator cannot use
SMALL = 2  # images of the step that is counted; twice as many give the slope


class CountedTraining:
    """A config whose training step is counted, from which all numbers of a plan follow.

    Args:
        cfg: A config of pretraining.
        dtype: Type of autocast.
        size: Height and width of the images; those of the config if None.
        recompute: Whether the encoder recomputes activations; as the config says if None.
        as_gpu: Whether to count what a GPU computes, which may be other operators than those of a CPU.

    Attributes:
        sizes: Sizes of the model.
    """

    def __init__(
        self,
        cfg: Config,
        dtype: torch.dtype,
        size: tuple[int, int] | None = None,
        recompute: bool | None = None,
        as_gpu: bool = True,
    ) -> None:
        self.cfg, self.dtype, self.size = cfg, dtype, size or find_size(cfg)
        self._step = FakeStep(cfg, dtype, self.size, recompute, as_gpu)
        with self._step.mode:
            self.sizes = measure_sizes(self._step.model, self._step.cfg)
        self._small = self._step.count_step(SMALL)  # which also finds out whether it can be faked
        self._double = self._step.count_step(2 * SMALL) if self.is_fake else None
        self._peaks: dict[int, StepPeak] = {}
        self._kernels: dict[tuple[bool, int], list[Kernel]] = {}

    @property
    def is_fake(self) -> bool:
        """Return whether steps are counted on fake tensors; otherwise small ones are for real."""
        return self._step.is_fake

    @cached_property
    def accumulated(self) -> int:
        """Steps whose gradients are added up before the optimizer steps."""
        return self.cfg.optim_wrapper.get('accumulative_counts', 1)

    def count(self, batch: int) -> StepCount:
        """Count a step of a batch, by two small ones: operations and bytes of an operator lie on a line.

        Where the model cannot run on fake tensors, one small batch that ran for real is scaled.
        """
        if self._double is None:
            return self._small.scale(batch)
        return self._small.extrapolate(self._double, batch)

    def flops_per_image(self) -> float:
        """Return the floating-point operations of a training step per image."""
        return self._small.flops / SMALL

    def find_peak(self, batch: int) -> StepPeak:
        """Follow the memory of a step; where the model cannot run on fake tensors, a small batch is scaled."""
        if batch not in self._peaks:
            if self.is_fake or batch == SMALL:
                self._peaks[batch] = self._step.measure_peak(batch)
            else:
                small, fixed = self.find_peak(SMALL), self.sizes.trained  # the gradients do not grow with the batch
                peak = (small.peak - fixed) * batch / SMALL + fixed
                self._peaks[batch] = StepPeak(round(small.forward * batch / SMALL), round(peak))
        return self._peaks[batch]

    def memory(self, settings: Settings, batch: int | None = None) -> Memory:
        """Estimate the memory of a GPU."""
        size, batch = self.sizes, batch or settings.batch
        peak = self.find_peak(batch)
        parts = settings.gpus if settings.engine == 'fsdp2' else 1
        # The peak of a step holds its own gradients; those of DDP's buckets are there from the beginning.
        activations = max(peak.peak - size.trained, peak.forward)
        gathered = 2 * size.block if parts > 1 else 0  # the block that computes, and the next one
        return Memory(
            size.trained / parts + size.other + gathered,
            size.trained / parts,
            size.states / parts,
            size.averaged / parts,
            max(activations, 0),
        )

    def largest_batch(self, settings: Settings) -> int:
        """Return about the most images per GPU and step that fit; 0 if not even one does."""
        room = settings.memory * USABLE
        if self.memory(settings, 1).total > room:
            return 0
        at = max(settings.batch, 8)
        one, two = (self.memory(settings, batch).total for batch in (at, 2 * at))
        batch = max(1, int((room - 2 * one + two) / (two - one) * at))
        while batch > 1 and self.memory(settings, batch).total > room:
            batch = min(batch - 1, int(0.99 * batch))
        return batch

    def kernels(self, settings: Settings, batch: int) -> list[Kernel]:
        """Return the kernels of forward and backward pass."""
        key = settings.compiled, batch
        if key not in self._kernels:
            count = self.count(batch)
            make = fuse_kernels if settings.compiled else list_kernels
            self._kernels[key] = make(count.operators, count.backward_begins)
        return self._kernels[key]

    def time_step(
        self, settings: Settings, rates: Rates, gpus: int | None = None, batch: int | None = None
    ) -> StepTime:
        """Estimate the seconds of a step."""
        gpus, batch = gpus or settings.gpus, batch or settings.batch
        kernels = self.kernels(settings, batch)
        backward = rates.seconds(kernel for kernel in kernels if kernel.backward)
        compute = backward + rates.seconds(kernel for kernel in kernels if not kernel.backward)
        if not settings.compiled:
            compute = max(compute, len(kernels) * rates.operator_seconds)
        if settings.efficiency is not None:
            whole = self.count(batch).flops / (rates.peak * settings.efficiency)
            backward, compute = backward * whole / compute, whole
        parts = gpus if settings.engine == 'fsdp2' else 1
        compute += self.sizes.updated / parts / rates.memory / self.accumulated
        sent, messages = self.traffic(settings, gpus)
        traffic = traffic_seconds(sent, messages, gpus, settings.network) / self.accumulated
        hides = (compute if settings.engine == 'fsdp2' else backward) if settings.overlap else 0.0
        exposed = exposed_seconds(traffic, hides, messages) if settings.overlap else traffic
        data = batch / settings.data_rate if settings.data_rate else 0.0
        return StepTime(compute, backward, data, traffic, exposed)

    def traffic(self, settings: Settings, gpus: int) -> tuple[float, int]:
        """Return the bytes that each GPU sends in a step, and in how many messages."""
        trained = self.sizes.trained
        width = 4 if self.dtype == torch.float32 else 2
        gathered = self.sizes.parameters * width
        if settings.engine == 'ddp':
            return step_traffic('ddp', trained, gathered, gpus), math.ceil(trained / BUCKET)
        return step_traffic('fsdp2', trained, gathered, gpus), 3 * self.sizes.blocks
