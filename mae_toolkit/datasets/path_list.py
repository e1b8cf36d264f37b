"""A list of strings that worker processes share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class PathList:
    """Many strings in two arrays, as a list of them would be copied into every worker process.

    Args:
        names: The strings. Undecodable bytes of file names, as surrogates, are kept.

    Attributes:
        bytes: The strings one after another, uint8.
        ends: (N,) numbers of bytes up to the end of each.
    """

    def __init__(self, names: Sequence[str]) -> None:
        encoded = [name.encode('utf-8', 'surrogateescape') for name in names]
        self.bytes = np.frombuffer(b''.join(encoded), np.uint8)
        self.ends = np.cumsum([len(name) for name in encoded], dtype=np.int64)

    @classmethod
    def from_arrays(cls, data: np.ndarray, ends: np.ndarray) -> PathList:
        """Make a list of the two arrays of another one."""
        made = cls(())
        made.bytes, made.ends = data, ends
        return made

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self.ends)

    def __getitem__(self, index: int) -> str:
        """Return one string."""
        start = self.ends[index - 1] if index else 0
        return self.bytes[start : self.ends[index]].tobytes().decode('utf-8', 'surrogateescape')
