"""Random numbers of libraries that draw from global generators."""

import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch


@contextmanager
def kept_random_states() -> Iterator[None]:
    """Restore Python's and NumPy's global generators afterwards."""
    python, numpy = random.getstate(), np.random.get_state()
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)


@contextmanager
def seeded(seed):
    """Python's and NumPy's global generators begin with a seed here, and go on afterwards as if nothing had been drawn.

    Args:
        seed (int): 0 to 2**32 - 1.
    """
    with kept_random_states():
        random.seed(seed)
        np.random.seed(seed)
        yield


@contextmanager
def seeded_by(*numbers: int) -> Iterator[None]:
    """Seed Python's, NumPy's and torch's generators of the CPU from some numbers, and restore them afterwards.

    Args:
        *numbers: Whole numbers from 0 on, such as a seed, an epoch and an index; others give unrelated random numbers.
    """
    state = np.random.SeedSequence(numbers).generate_state(3, np.uint32)
    with seeded(int(state[0])), torch.random.fork_rng([]):
        torch.default_generator.manual_seed(int(state[1]) << 32 | int(state[2]))
        yield
