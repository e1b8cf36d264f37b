"""Random numbers of libraries that draw from global generators."""

import random
from contextlib import contextmanager

import numpy as np


@contextmanager
def seeded(seed):
    """Python's and NumPy's global generators begin with a seed here, and go on afterwards as if nothing had been drawn.

    Args:
        seed (int): 0 to 2**32 - 1.
    """
    python, numpy = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)
