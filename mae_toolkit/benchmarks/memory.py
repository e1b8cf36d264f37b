"""Measure the peak memory of a piece of work."""

import ctypes
import gc
from pathlib import Path

import psutil
import torch

RESET, STATUS = Path('/proc/self/clear_refs'), Path('/proc/self/status')


class PeakMemory:
    """Greatest memory since construction beyond what was held then, in bytes.

    On a GPU what torch allocated; on Linux the resident memory of this process, after free memory went back to the
    system and the high-water mark was set back; elsewhere the resident memory at the moment of reading.

    Args:
        device: Where the work is done.
    """

    def __init__(self, device: torch.device | str) -> None:
        self.device = torch.device(device)
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
        elif RESET.exists():
            gc.collect()
            ctypes.CDLL(None).malloc_trim(0)
            RESET.write_text('5')
        self.before = self._now()

    def read(self) -> int:
        """Return the peak so far."""
        return max(0, self._now() - self.before)

    def _now(self) -> int:
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device)
        if not STATUS.exists():
            return psutil.Process().memory_info().rss
        line = next(line for line in STATUS.read_text().splitlines() if line.startswith('VmHWM'))
        return int(line.split()[1]) * 1024
