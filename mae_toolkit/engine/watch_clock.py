"""How long the watch of an encoder has taken, and whether it may take more."""

from collections.abc import Iterator
from contextlib import contextmanager
from time import perf_counter

from mae_toolkit.printing import format_count


class WatchClock:
    """Clock of a watch, from just before its images are loaded.

    Args:
        share: Share of the time of the training that the watch may take.

    Attributes:
        seconds: What it has taken so far, with the loading of its images.
        loading: Of this, what the loading took.
        measurements: How many it has made.
        left_out: How many it has left out, to stay within the share.
    """

    def __init__(self, share: float) -> None:
        self.share = share
        self.seconds, self.loading, self.measurements, self.left_out = 0.0, 0.0, 0, 0
        self._begin = perf_counter()
        self._latest = self._optional = 0.0

    @contextmanager
    def load(self) -> Iterator[None]:
        """Time the loading of images."""
        began = perf_counter()
        yield
        self.loading = perf_counter() - began
        self.seconds += self.loading

    @contextmanager
    def measure(self, is_optional: bool) -> Iterator[None]:
        """Time a measurement.

        Args:
            is_optional: Whether it could have been left out.
        """
        began = perf_counter()
        yield
        self._latest = perf_counter() - began
        self.seconds += self._latest
        self._optional += self._latest if is_optional else 0.0
        self.measurements += 1

    def allows(self, done: float, ahead: int) -> bool:
        """Return whether another measurement stays within the share; count it as left out if it does not.

        Those that could be left out are spread over the training: half of them are allowed at half of it.

        Args:
            done: Share of the steps that are done, of those from the start of the clock on.
            ahead: Measurements that have to be made later.
        """
        training = (perf_counter() - self._begin - self.seconds) / done  # of the whole of it, as it goes so far
        due = self.seconds - self._optional + ahead * self._latest
        allowed = self._optional + self._latest <= done * (self.share * training - due)
        self.left_out += not allowed
        return allowed

    @property
    def taken(self) -> float:
        """Return which share of the time since the start the watch has taken."""
        return self.seconds / max(perf_counter() - self._begin, 1e-9)

    def describe(self) -> str:
        """Say what the watch has taken."""
        each = (self.seconds - self.loading) / max(self.measurements, 1)
        count = format_count(self.measurements, 'measurement')
        text = f'{count} of {each:.2g} s and {self.loading:.2g} s to load the images took {self.taken:.1%} of the time'
        if self.left_out:
            verb = 'was' if self.left_out == 1 else 'were'
            text += f'; {self.left_out} {verb} left out to stay within share={self.share:g}'
        if self.taken > self.share:
            text += f'. That is more than share={self.share:g}: train longer, or measure fewer images or less often'
        return text
