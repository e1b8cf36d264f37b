"""Measure where the time of training steps goes, without waiting for the device."""

from time import perf_counter
from typing import Any

import torch
from torch import nn


class StepClock:
    """Clock of a process's training steps, summed over a window of steps.

    A step lasts from the end of the one before it to its own end. It first waits for its batch, then computes. The
    forward pass is timed for itself: it is what a process does on its own, before it meets the others in the exchange
    of gradients, where a fast one waits for a slow one. On a GPU that time comes from events, which are read when the
    window is closed; the host never waits for the device in between.

    Attributes:
        steps: Number of steps in the window.
        images: Number of images of this process in them.
        seconds: Wall time of the steps.
        waited: Seconds of it that passed before the batches were there.
    """

    def __init__(self) -> None:
        self._events: list[list[Any]] = []
        self._handles: list[Any] = []
        self._forward = 0.0
        self._mark = self._began = self._entered = perf_counter()
        self.restart()

    def restart(self) -> None:
        """Begin a new window."""
        self.steps, self.images = 0, 0
        self.seconds = self.waited = self._forward = 0.0
        self._events.clear()

    def watch_forward(self, model: nn.Module) -> None:
        """Time the forward passes of a model in training mode."""
        timed = self._enter_on_cpu, self._leave_on_cpu
        if _is_on_gpu(model):
            timed = self._enter_on_gpu, self._leave_on_gpu
        self._handles = [
            model.register_forward_pre_hook(lambda module, *_: timed[0]() if module.training else None),
            model.register_forward_hook(lambda module, *_: timed[1]() if module.training else None),
        ]

    def release(self) -> None:
        """Stop timing forward passes."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def mark(self) -> None:
        """Begin to wait for a batch: what came before, such as a validation, belongs to no step."""
        self._mark = perf_counter()

    def begin_step(self) -> None:
        """Note that the batch of a step is there."""
        self._began = perf_counter()

    def end_step(self, images: int) -> None:
        """Note that a step has ended.

        Args:
            images: Number of its images in this process.
        """
        now = perf_counter()
        self.steps, self.images = self.steps + 1, self.images + images
        self.seconds += now - self._mark
        self.waited += self._began - self._mark
        self._mark = now

    def read_forward(self) -> float:
        """Return the seconds of the forward passes in the window; on a GPU, once the last of them has ended."""
        pairs = [pair for pair in self._events if len(pair) == 2]
        if pairs:
            pairs[-1][1].synchronize()
        return self._forward + sum(start.elapsed_time(end) for start, end in pairs) / 1000

    def _enter_on_cpu(self) -> None:
        self._entered = perf_counter()

    def _leave_on_cpu(self) -> None:
        self._forward += perf_counter() - self._entered

    def _enter_on_gpu(self) -> None:
        self._events.append([_record_event()])

    def _leave_on_gpu(self) -> None:
        if self._events and len(self._events[-1]) == 1:
            self._events[-1].append(_record_event())


def _is_on_gpu(model: nn.Module) -> bool:
    return next(model.parameters()).device.type == 'cuda'


def _record_event() -> Any:
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event
