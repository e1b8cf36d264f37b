"""A list of strings that worker processes share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


class PathList:
    """Many strings in two arrays, as a list of them would be copied into every worker process.

    Args:
        names: The strings. Undecodable bytes of file names, as surrogates, are kept.
    """

    def __init__(self, names: Sequence[str]) -> None:
        encoded = [name.encode('utf-8', 'surrogateescape') for name in names]
        self._bytes = np.frombuffer(b''.join(encoded), np.uint8)
        self._ends = np.cumsum([len(name) for name in encoded])

    def __len__(self) -> int:
        """Return the number of strings."""
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        """Return one string."""
        start = self._ends[index - 1] if index else 0
        return self._bytes[start : self._ends[index]].tobytes().decode('utf-8', 'surrogateescape')
