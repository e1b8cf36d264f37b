"""Types of arguments for ``argparse``, which refuse what a tool cannot use before any work is done.

What loads torch is imported where it is used, so that a program answers to ``--help`` at once.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from mae_toolkit.outputs import describe_special_file


def positive_int(text: str) -> int:
    """Convert text to a whole number of 1 or more; a type for ``argparse``."""
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f'{text} is not a whole number of 1 or more')
    return int(text)


def seed_number(text: str) -> int:
    """Convert text to a seed that all generators take, from 0 to 2**32 - 1; a type for ``argparse``."""
    if not text.isdigit() or int(text) >= 2**32:
        raise argparse.ArgumentTypeError(f'{text} is not a whole number from 0 to {2**32 - 1}')
    return int(text)


def positive_number(text: str) -> float:
    """Convert text to a number above 0; a type for ``argparse``."""
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not 0 < number < float('inf'):
        raise argparse.ArgumentTypeError(f'{text} is not a number above 0')
    return number


def step_range(text: str) -> tuple[int, int]:
    """Convert ``'10:15'`` to the first step and the one after the last; a type for ``argparse``."""
    first, _, last = text.partition(':')
    if not (first.isdigit() and last.isdigit()) or int(first) >= int(last):
        raise argparse.ArgumentTypeError(f'{text} is not FIRST:LAST, such as 10:15, with the first below the last')
    return int(first), int(last)


def fraction(text: str) -> float:
    """Convert text to a number from 0 to 1; a type for ``argparse``."""
    try:
        number = float(text)
    except ValueError:
        number = -1.0
    if not 0 <= number <= 1:
        raise argparse.ArgumentTypeError(f'{text} is not a number from 0 to 1')
    return number


def share_below_one(text: str) -> float:
    """Convert text to a number from 0 to below 1; a type for ``argparse``."""
    number = fraction(text)
    if number == 1:
        raise argparse.ArgumentTypeError(f'{text} is not a number from 0 to below 1')
    return number


def device(text: str) -> str:
    """Check that this machine has a device, such as ``cuda:0``; a type for ``argparse``."""
    import torch

    try:
        torch.empty(1, device=text).item()  # the device "meta" holds no numbers
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).strip().splitlines()[0]
        raise argparse.ArgumentTypeError(f'{text} cannot be used here ({reason}); cpu always can') from None
    return text


def output_file(text: str) -> str:
    """Check that a file can be written at a path, before any work is done; a type for ``argparse``.

    Whether it may replace an existing file is checked by :func:`~mae_toolkit.outputs.check_output`.
    """
    path = Path(text)
    if kind := describe_special_file(path):
        raise argparse.ArgumentTypeError(f'{text} is {kind}, which is not written to; name a file')
    if path.is_dir():
        raise argparse.ArgumentTypeError(f'{text} is a folder; name a file in it')
    if not path.absolute().parent.is_dir():
        raise argparse.ArgumentTypeError(f'there is no folder {path.parent}; make it first')
    return text
