"""Find the device, the batch and the length of a training from what a user names and what the config says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import psutil
import torch
from mmengine.config import Config

from mae_toolkit.device_peaks import PEAKS, find_peak
from mae_toolkit.errors import UserError
from mae_toolkit.planning.cluster.rates import Rates, measure_rates, rates_from_peak
from mae_toolkit.registry import suggest

CPU_LINK = 1e9  # bytes per second between the processes of one machine


@dataclass(frozen=True)
class PlannedDevice:
    """The device that is planned for.

    Attributes:
        rates: What it reaches.
        memory: Bytes of its memory.
        link: Bytes per second to the others of its node, in one direction.
        torch_device: The device of this machine on which it can be measured; None if there is none.
    """

    rates: Rates
    memory: float
    link: float
    torch_device: torch.device | None

    @property
    def is_gpu(self) -> bool:
        """Return whether it is a GPU."""
        return self.torch_device is None or self.torch_device.type == 'cuda'

    def list_rates(self, dtype: torch.dtype) -> dict[str, Rates]:
        """Return the rates by where they are from, those that are measured here among them."""
        if not self.is_gpu or self.torch_device is None:
            return {'rates of kernels': self.rates}
        return {
            'the data sheet': self.rates,
            'rates of kernels': measure_rates(self.torch_device, dtype, self.rates.peak),
        }


def choose_device(
    kind: str | None, dtype: torch.dtype, allow_tf32: bool = False, measure: bool = False
) -> PlannedDevice:
    """Find the rates and the memory of a kind of GPU, or of this machine's.

    Args:
        kind: Name of a GPU; ``'cpu'`` for the CPU of this machine, whose rates are always measured; None for the GPU of
            this machine.
        dtype: Type in which it multiplies.
        allow_tf32: Whether float32 may be multiplied on tensor cores.
        measure: Refuse a GPU that is not here, as its steps are to be measured.

    Raises:
        UserError: If the kind is unknown, or this machine has no such device.
    """
    if kind is not None and kind.lower() == 'cpu':
        place = torch.device('cpu')
        return PlannedDevice(measure_rates(place, dtype), psutil.virtual_memory().total, CPU_LINK, place)
    here = torch.cuda.get_device_properties(0) if torch.cuda.is_available() else None
    if kind is None and here is None:
        raise UserError('torch finds no GPU here: name the kind that is planned for, as with --kind H200, or cpu.')
    name = str(kind or getattr(here, 'name', ''))
    peak = find_peak(name)
    if peak is None:
        raise UserError(f'There is no data sheet of {name!r}{suggest(name.upper(), [one.name for one in PEAKS])}')
    is_here = here is not None and find_peak(here.name) is peak
    if measure and not is_here:
        raise UserError(f'--measure: this machine has no {peak.name}: plan without it, or with --kind cpu.')
    gpu = torch.device('cuda', 0) if is_here else None
    return PlannedDevice(rates_from_peak(peak, dtype, allow_tf32), peak.memory, peak.link_bandwidth, gpu)


def choose_batch(cfg: Config, gpus: int, batch: int | None, total: int | None) -> int:
    """Return the images per GPU and iteration: those that are named, a share of the total, or those of the config.

    Args:
        cfg: The config. Its ``total_batch_size`` counts the images of an iteration over all GPUs.
        gpus: Number of GPUs.
        batch: Images per GPU and iteration; None if they are not named.
        total: Images of all GPUs per step of the optimizer; None if they are not named.

    Raises:
        UserError: If the GPUs, with their accumulated iterations, cannot share the total evenly.
    """
    name, accumulated = '--total-batch ', cfg.optim_wrapper.get('accumulative_counts', 1)
    if total is None:
        name, accumulated, total = 'total_batch_size=', 1, cfg.get('total_batch_size')
        if batch or total is None:
            return batch or cfg.train_dataloader.batch_size
    each, rest = divmod(total, gpus * accumulated)
    if rest or not each:
        over = f'{gpus} GPUs' + (f' x {accumulated} accumulated iterations' if accumulated > 1 else '')
        low, high = max(each, 1) * gpus * accumulated, (each + 1) * gpus * accumulated
        near = f'{low} or {high}' if each else f'{high}'
        raise UserError(f'{name}{total} cannot be divided among {over}: choose {near}.')
    return each


def find_epochs(cfg: Config, images: int, total_batch: int) -> float:
    """Return how often a config sees each image, also where it counts iterations."""
    loop: Any = cfg.train_cfg
    if loop.get('max_epochs') is not None:
        return loop.max_epochs
    if loop.get('max_iters') is not None:
        return loop.max_iters * total_batch / images
    raise UserError('train_cfg has neither max_epochs nor max_iters: say with --epochs how long the training is.')
