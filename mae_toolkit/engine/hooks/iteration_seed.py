"""Seed each training iteration from its number."""

import random
from typing import Any

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.runner import Runner

from mae_toolkit.registry import HOOKS


def make_iteration_seed(seed: int, iteration: int, rank: int = 0) -> int:
    """Mix three numbers into a seed of 63 bits, so that neighbors share no random numbers.

    Args:
        seed: Seed of the run.
        iteration: Number of the iteration.
        rank: Number of the process.
    """
    return int(np.random.SeedSequence([seed, iteration, rank]).generate_state(1, np.uint64)[0] >> 1)


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Hook that seeds torch, NumPy and Python before each training iteration from (seed, iteration, rank).

    Masks, drop path and everything else that is drawn are thus the same after a resume, without a saved state of a
    generator, however many numbers a validation or another hook has drawn.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Seed torch's generators of all devices, and those of Python and NumPy, from which some models draw."""
        seed = make_iteration_seed(runner.seed, runner.iter, get_rank())
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
