"""The device that a run is planned for."""

from __future__ import annotations

import os
from dataclasses import dataclass

import torch


@dataclass(frozen=True)
class Device:
    """What a run is trained on.

    Attributes:
        kind: ``'cpu'`` or ``'cuda'``.
        memory: Bytes of a GPU; 0 of a CPU.
        cores: CPU cores that this process may use.
        name: Name for messages.
    """

    kind: str
    memory: int
    cores: int
    name: str

    def __str__(self) -> str:
        """Return the kind in words."""
        return 'GPU' if self.kind == 'cuda' else 'CPU'


def find_device() -> Device:
    """Find what this machine trains on: its first GPU, or else its CPU."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count() or 1
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        return Device('cuda', properties.total_memory, cores, properties.name)
    return Device('cpu', 0, cores, f'{cores} CPU core{"s" * (cores > 1)}')
