"""The device that trains: what it is, and which precision it computes fastest."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from mae_toolkit.cores import count_cores

SIDE = 512  # of the matrices that are multiplied to compare precisions
REPEATS = 5


@dataclass(frozen=True)
class Device:
    """The device that trains.

    Attributes:
        name: For sentences, such as ``'a GPU (NVIDIA H200)'`` or ``'2 CPU cores'``.
        type: ``'cuda'`` or ``'cpu'``.
        cores: CPU cores that this process may use.
        memory: Bytes of a GPU; 0 for CPUs.
        has_bfloat16: Whether it computes in bfloat16 at least as fast as in float32.
    """

    name: str
    type: str
    cores: int
    memory: int
    has_bfloat16: bool

    @property
    def is_gpu(self) -> bool:
        """Return whether it is a GPU."""
        return self.type == 'cuda'


def find_device() -> Device:
    """Find the device that MMEngine trains on: a GPU if torch sees one, else the CPU."""
    cores = count_cores()
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device(
            f'a GPU ({properties.name})', 'cuda', cores, properties.total_memory, multiplies_bfloat16_fast('cuda')
        )
    name = f'{cores} CPU cores' if cores > 1 else 'one CPU core'
    return Device(name, 'cpu', cores, 0, multiplies_bfloat16_fast('cpu'))


def multiplies_bfloat16_fast(device: str) -> bool:
    """Return whether matrices are multiplied in bfloat16 at least as fast as in float32, by trying it.

    A CPU without instructions for bfloat16 computes in it, but many times slower.
    """
    seconds = {}
    for dtype in (torch.float32, torch.bfloat16):
        matrix = torch.ones(SIDE, SIDE, dtype=dtype, device=device)
        timings = []
        for _ in range(REPEATS):
            begin = time.perf_counter()
            (matrix @ matrix)[0, 0].item()  # which waits for the device
            timings.append(time.perf_counter() - begin)
        seconds[dtype] = min(timings)
    return seconds[torch.bfloat16] <= 1.1 * seconds[torch.float32]
