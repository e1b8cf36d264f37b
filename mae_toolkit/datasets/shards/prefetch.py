"""Download shards before they are needed."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

import numpy as np


def list_first_uses(dataset: Any, indices: np.ndarray) -> list[tuple[int, int]]:
    """List the shards that a process will read, in the order of their first use.

    Args:
        dataset: A :class:`ShardDataset`.
        indices: Indices of the images that the process will read, in order.

    Returns:
        For each shard the place in ``indices`` of its first use, and its number.
    """
    shards, places = np.unique(dataset.find_shards(indices), return_index=True)
    return sorted(zip(places.tolist(), shards.tolist(), strict=True))


class Prefetcher:
    """Thread that downloads shards, always a few beyond those that are in use.

    Args:
        dataset: A :class:`ShardDataset`.
        uses: See :func:`list_first_uses`.
        ahead: Number of shards to have beyond those in use.

    Attributes:
        place: Place that has been reached, which the caller sets.
    """

    def __init__(self, dataset: Any, uses: Sequence[tuple[int, int]], ahead: int) -> None:
        self.place = 0
        self._dataset, self._uses, self._ahead = dataset, list(uses), ahead
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name='prefetch shards', daemon=True)
        if ahead:
            self._thread.start()

    def stop(self) -> None:
        """End the thread after the download that it is at, for which nobody waits."""
        self._stopped.set()

    def _run(self) -> None:
        for number, (_, shard) in enumerate(self._uses):
            while not self._stopped.is_set() and self._is_far(number):
                self._stopped.wait(0.2)
            if self._stopped.is_set():
                return
            self._dataset.prefetch(shard)

    def _is_far(self, number: int) -> bool:
        """Return whether a shard is more than the wanted number of shards beyond the place that has been reached."""
        before = number - self._ahead
        return before >= 0 and self._uses[before][0] > self.place
