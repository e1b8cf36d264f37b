"""Iterations that a run passes over, and how a spike of its loss is told from noise."""

import json
import math
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

FILE = 'skipped_iterations.json'
NORMAL = 1.4826  # standard deviations of a normal distribution per median absolute deviation
LEAST = 1e-3  # of the median: the deviation of a loss that hardly varies

Range = tuple[int, int]  # the first iteration, and the one after the last


class LossSpike(Exception):
    """The loss of a run has risen far above what it was; the run is to go on from a checkpoint before that.

    Args:
        message: What happened, and what is skipped.
        checkpoint: The checkpoint.
    """

    def __init__(self, message: str, checkpoint: str) -> None:
        super().__init__(message)
        self.checkpoint = checkpoint


def measure_deviation(value: float, history: Sequence[float]) -> tuple[float, float]:
    """Compare a value with those before it, robustly: earlier outliers hardly count.

    Args:
        value: The value, which is finite.
        history: Values before it, at least one.

    Returns:
        Its distance above their median in standard deviations (of the median absolute deviation), and its ratio to
        their median.
    """
    middle = statistics.median(history)
    deviation = NORMAL * statistics.median(abs(other - middle) for other in history)
    scale = max(deviation, LEAST * abs(middle), 1e-12)
    return (value - middle) / scale, value / middle if middle > 0 else math.inf


def merge_ranges(ranges: Iterable[Sequence[int]]) -> list[Range]:
    """Sort ranges of iterations, and join those that touch.

    Args:
        ranges: Pairs (first, end), without the end.
    """
    merged: list[Range] = []
    for first, end in sorted((int(first), int(end)) for first, end in ranges):
        if merged and first <= merged[-1][1]:
            merged[-1] = merged[-1][0], max(end, merged[-1][1])
        else:
            merged.append((first, end))
    return merged


def read_skips(folder: str | Path) -> list[Range]:
    """Read which ranges of iterations a run passes over.

    Args:
        folder: Its work directory.

    Raises:
        UserError: If the file holds something else.
    """
    path = Path(folder) / FILE
    try:
        return merge_ranges(json.loads(path.read_text())) if path.is_file() else []
    except (ValueError, TypeError) as error:
        raise UserError(
            f'{path} holds no pairs of iterations ({error}): write such as [[400, 417]], or remove it to skip none.'
        ) from None


def write_skips(folder: str | Path, ranges: Iterable[Sequence[int]]) -> None:
    """Write them.

    Args:
        folder: The work directory.
        ranges: The ranges.
    """
    atomic_write(Path(folder) / FILE, json.dumps([list(one) for one in ranges]) + '\n')
