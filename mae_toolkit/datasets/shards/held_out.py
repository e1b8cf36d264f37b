"""Which images of a shard remain where every n-th image of all shards is held out."""

from __future__ import annotations


def count_kept(first: int, length: int, hold_out: int | None) -> int:
    """Return how many images of a shard remain.

    Args:
        first: Number of images in the shards before it.
        length: Number of its images.
        hold_out: See :func:`~mae_toolkit.datasets.item_arguments.apply_hold_out`.
    """
    if hold_out is None:
        return int(length)
    held_out = len(range(-first % abs(hold_out), length, abs(hold_out)))
    return held_out if hold_out < 0 else int(length) - held_out


def find_kept(first: int, number: int, hold_out: int | None) -> int:
    """Return the number within a shard of one of the images that remain.

    For example, ``hold_out=3`` leaves out the images 0, 3, 6, ... of all: of a shard with ``first=4``, the images 2, 5,
    ... of its own; so the images that remain are 0, 1, 3, 4, 6, ...

    Args:
        first: Number of images in the shards before it.
        number: How many of the images that remain in the shard come before it.
        hold_out: See :func:`count_kept`.
    """
    if hold_out is None:
        return number
    step = abs(hold_out)
    begin = -first % step  # the first image that is held out
    if hold_out < 0:
        return begin + number * step
    return number if number < begin else number + 1 + (number - begin) // (step - 1)
