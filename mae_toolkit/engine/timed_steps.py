"""Time the steps of a training, as many in all processes."""

import itertools
from collections.abc import Callable, Iterable
from math import ceil
from typing import Any

from mmengine.dist import broadcast_object_list

PROBE = 8  # least number of steps that are timed


def time_steps(step: Callable[[Any], None], loader: Iterable[Any], most: float, clock: Callable[[], float]) -> float:
    """Return the mean seconds of a step with its data, without the first ones, which are slower.

    All processes compute as many steps as the first one finds time for: they wait for one another in each of them.

    Args:
        step: Computes a step of a batch.
        loader: Gives the batches, again and again.
        most: Seconds to spend, unless :data:`PROBE` steps take longer.
        clock: Tells seconds.
    """
    batches = itertools.chain.from_iterable(itertools.repeat(loader))
    times = [clock()]

    def go_on(count: int) -> None:
        for batch in itertools.islice(batches, count):
            step(batch)
            times.append(clock())

    def measure() -> float:
        first = (len(times) - 1) // 3 + 1
        return (times[-1] - times[first]) / (len(times) - 1 - first)

    go_on(PROBE)
    left = [ceil((most - (times[-1] - times[0])) / max(measure(), 1e-6))]
    broadcast_object_list(left)
    go_on(max(0, left[0]))
    return measure()
