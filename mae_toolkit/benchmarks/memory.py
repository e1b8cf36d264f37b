"""Peak memory of a piece of work."""

from pathlib import Path

import psutil
import torch


class PeakMemory:
    """Greatest memory since construction, in bytes.

    On a GPU what torch allocated; on Linux the resident memory of this process, whose high-water mark can be set back;
    elsewhere the resident memory at the moment of reading.
    """

    def __init__(self, device):
        self.device = torch.device(device)
        if self.device.type == 'cuda':
            torch.cuda.reset_peak_memory_stats(self.device)
        elif _RESET.exists():
            _RESET.write_text('5')

    def read(self):
        """The peak so far."""
        if self.device.type == 'cuda':
            return torch.cuda.max_memory_allocated(self.device)
        if not _STATUS.exists():
            return psutil.Process().memory_info().rss
        line = next(line for line in _STATUS.read_text().splitlines() if line.startswith('VmHWM'))
        return int(line.split()[1]) * 1024


_RESET, _STATUS = Path('/proc/self/clear_refs'), Path('/proc/self/status')
