"""Seed global random number generators for a while, and restore them."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch

from mae_toolkit.errors import UserError

MOST_SEED = 2**32 - 1  # that NumPy and scikit-learn take


def check_seed(seed: int) -> None:
    """Refuse a seed that not all generators take.

    Raises:
        UserError: If it is not from 0 to 2**32 - 1.
    """
    if not 0 <= seed <= MOST_SEED:
        raise UserError(f'seed={seed} must be from 0 to {MOST_SEED}.')


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Restore the global generators of Python and NumPy after a ``with`` block, whatever was drawn in it."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Seed the global generators of Python and NumPy for a ``with`` block, and restore them afterwards.

    Args:
        seed: 0 to 2**32 - 1.
    """
    with kept_random_states():
        random.seed(seed)
        np.random.seed(seed)
        yield


@contextmanager
def seeded_torch(seed: int) -> Iterator[None]:
    """Seed torch's generators, of the CPU and of all GPUs, for a ``with`` block, and restore them afterwards."""
    with torch.random.fork_rng(list(range(torch.cuda.device_count()))):
        torch.manual_seed(seed)
        yield


@contextmanager
def seeded_by(*numbers: int) -> Iterator[None]:
    """Seed the generators of Python, NumPy and torch's CPU from several numbers for a ``with`` block.

    They are restored afterwards. ``seeded_by(0, 3, 17)`` draws the same numbers each time, unrelated to those of
    ``seeded_by(0, 3, 18)``.

    Args:
        *numbers: Whole numbers of 0 or more, such as a seed, an epoch and an index.
    """
    state = np.random.SeedSequence(numbers).generate_state(3, np.uint32)
    with seeded(int(state[0])), torch.random.fork_rng([]):
        torch.default_generator.manual_seed(int(state[1]) << 32 | int(state[2]))
        yield
