"""Steps of training on the device, tried before the training to find batch size, precision and workers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DATASETS as MMENGINE_DATASETS
from mmengine.registry import OPTIMIZERS

from mae_toolkit.engine.optim import AutocastOptimWrapper
from mae_toolkit.models.build import build_model
from mae_toolkit.planning.device import Device
from mae_toolkit.spread import spread_indices

LEAST_SECONDS = 0.4  # that a batch size is tried after its first step
FEWEST_STEPS, MOST_STEPS = 2, 10  # that are timed
SLACK = 1.1  # factor by which the expected time or memory of a doubled batch may exceed the limit
MOST_MEMORY = 0.8  # of a GPU's, as the training needs more than a step
LOADED = 16  # images that are loaded to measure how long it takes


@dataclass(frozen=True)
class StepTrial:
    """A batch size that was tried.

    Attributes:
        batch: Images per step.
        seconds: Per step.
        memory: Greatest number of bytes in use on a GPU; 0 on CPUs.
    """

    batch: int
    seconds: float
    memory: int

    @property
    def rate(self) -> float:
        """Return images per second."""
        return self.batch / self.seconds


class StepTimer:
    """Model and optimizer of a config, on which steps are timed with random images.

    Args:
        cfg: The config.
        device: The device.
        numbers: Type of numbers of the images, such as ``'uint8'``.
    """

    def __init__(self, cfg: Config, device: Device, numbers: str = 'uint8') -> None:
        self._device, self._dtype = device, getattr(torch, numbers)
        self._model: Any = build_model(cfg).to(device.type).train()
        optimizer = OPTIMIZERS.build(dict(cfg.optim_wrapper.optimizer) | {'params': self._model.parameters()})
        self._wrapper = AutocastOptimWrapper(optimizer=optimizer)
        self._channels = cfg.train_dataloader.dataset.channels
        size = cfg.train_dataloader.dataset.pipeline[0].size
        self._size = (size, size) if isinstance(size, int) else tuple(size)

    def time_step(self, batch: int, precision: str) -> StepTrial | None:
        """Time a step of a batch size; None if a GPU has too little memory for it."""
        self._wrapper.dtype = getattr(torch, precision)
        shape = (batch, self._channels, *self._size)
        imgs = torch.randint(256, shape, dtype=torch.uint8).to(self._dtype)
        try:
            if self._device.is_gpu:
                torch.cuda.reset_peak_memory_stats()
            self._take_step(imgs)  # the first one allocates and compiles
            timings: list[float] = []
            while len(timings) < FEWEST_STEPS or (sum(timings) < LEAST_SECONDS and len(timings) < MOST_STEPS):
                timings.append(self._take_step(imgs))
        except torch.OutOfMemoryError:
            self._wrapper.optimizer.zero_grad(set_to_none=True)
            torch.cuda.empty_cache()
            return None
        memory = torch.cuda.max_memory_allocated() if self._device.is_gpu else 0
        return StepTrial(batch, min(timings), memory)

    def _take_step(self, imgs: torch.Tensor) -> float:
        begin = time.perf_counter()
        self._model.train_step({'imgs': imgs}, self._wrapper)
        if self._device.is_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() - begin


def try_batches(
    time_step: Callable[[int], StepTrial | None], least: int, most: int, most_seconds: float, most_memory: float
) -> Iterator[StepTrial]:
    """Try batch sizes, doubled each time, up to what time and memory allow.

    Doubling goes on after a size that is no faster, as a single timing may mislead on a machine that others use, too.

    Args:
        time_step: Function that times a step of a batch size, or returns None if it does not fit into memory.
        least: The first batch size.
        most: The greatest.
        most_seconds: Seconds per step that a doubled batch must not exceed.
        most_memory: Bytes that it must not exceed, by which the next is not tried.

    Yields:
        The trials of batch sizes that may be used; nothing if even the first does not fit.
    """
    batch = least
    while batch <= most:
        trial = time_step(batch)
        if trial is None or trial.memory > most_memory:
            return
        if batch > least and trial.seconds > most_seconds:
            return
        yield trial
        if trial.seconds * 2 > most_seconds * SLACK or trial.memory * 2 > most_memory * SLACK:
            return
        batch *= 2


def time_loading(cfg: Config) -> float:
    """Return the seconds in which one process loads an image and cuts a crop from it."""
    dataset: Any = MMENGINE_DATASETS.build(cfg.train_dataloader.dataset)
    places = spread_indices(len(dataset), LOADED)
    dataset[0, places[0]]  # the first one imports what it needs
    begin = time.perf_counter()
    for place in places:
        dataset[0, place]
    return (time.perf_counter() - begin) / len(places)
