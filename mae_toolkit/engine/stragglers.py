"""Find the processes that keep the others waiting."""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median_low

LEAST_SHARE = 0.1  # of a step that a straggler costs the others


@dataclass(frozen=True)
class RankTimes:
    """Mean times of a process's steps, in seconds.

    Attributes:
        step: A whole step.
        data: The part of it that waits for the batch.
        forward: The forward pass.
    """

    step: float
    data: float
    forward: float

    @property
    def own(self) -> float:
        """Seconds that this process takes before it meets the others in the exchange of gradients."""
        return self.data + self.forward


@dataclass(frozen=True)
class Straggler:
    """A process that is slower than the others.

    Attributes:
        rank: Its rank.
        factor: Its time for data and forward pass over the median of all processes.
        waits_for_data: Whether it loses more time by waiting for data than by computing.
        seconds: Seconds per step that it loses against the median.
        step: Seconds of a step.
    """

    rank: int
    factor: float
    waits_for_data: bool
    seconds: float
    step: float

    def describe(self, host: str, windows: int) -> str:
        """Name the process, its host, and what it loses its time with.

        Args:
            host: Name of its host.
            windows: Number of measurements in a row in which it was slow.
        """
        what = 'waits for data' if self.waits_for_data else 'computes slowly'
        return (
            f'Rank {self.rank} on {host} {what}: {self.factor:.1f} times the median of all ranks in the last {windows} '
            f'measurements, which costs each of them {self.seconds:.3f} s of the {self.step:.3f} s of a step.'
        )


def find_stragglers(ranks: Sequence[RankTimes], factor: float) -> list[Straggler]:
    """Find the processes that take so much longer on their own than the median that the others wait for them.

    Args:
        ranks: Times of all processes, in the order of their ranks.
        factor: How many times the median a straggler takes.
    """
    usual, data, forward = (median_low([f(one) for one in ranks]) for f in (_own, _data, _forward))
    found = []
    for rank, one in enumerate(ranks):
        lost = one.own - usual
        if one.own >= factor * usual and lost >= LEAST_SHARE * one.step and lost > 0:
            waits = one.data - data >= one.forward - forward
            found.append(Straggler(rank, one.own / max(usual, 1e-9), waits, lost, one.step))
    return found


class StragglerWatch:
    """Count in how many windows in a row a process was slow.

    Args:
        factor: See :func:`find_stragglers`.
        windows: Number of windows in a row after which a process is named.
    """

    def __init__(self, factor: float, windows: int) -> None:
        self.factor, self.windows = factor, windows
        self._in_a_row: dict[int, int] = {}

    def update(self, ranks: Sequence[RankTimes]) -> list[Straggler]:
        """Take the times of a window, and return the processes that are to be named now.

        A process is named once, and again only after it was as fast as the others.
        """
        slow = {one.rank: one for one in find_stragglers(ranks, self.factor)}
        self._in_a_row = {rank: self._in_a_row.get(rank, 0) + 1 for rank in slow}
        return [one for rank, one in slow.items() if self._in_a_row[rank] == self.windows]


def _own(one: RankTimes) -> float:
    return one.own


def _data(one: RankTimes) -> float:
    return one.data


def _forward(one: RankTimes) -> float:
    return one.forward
