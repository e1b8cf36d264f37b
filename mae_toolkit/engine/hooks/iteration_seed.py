"""The random numbers of an iteration follow from its number."""

import random

import numpy as np
import torch
from mmengine.dist import get_rank
from mmengine.hooks import Hook

from mae_toolkit.registry import HOOKS


def iteration_seed(seed, iteration, rank=0):
    """A seed of 63 bits that mixes all three, so that neighboring ones share no random numbers."""
    return int(np.random.SeedSequence([seed, iteration, rank]).generate_state(1, np.uint64)[0] >> 1)


@HOOKS.register_module()
class IterationSeedHook(Hook):
    """Seeds torch, NumPy and Python before each training iteration from (seed, iteration, rank).

    So masks, drop path and whatever else is drawn on the device are the same after a resume, with no state of a
    generator saved, and however many numbers validation or another hook drew.
    """

    priority = 'VERY_HIGH'

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        """Seed the generators of all devices, and those from which some models draw sizes and samples."""
        seed = iteration_seed(runner.seed, runner.iter, get_rank())
        torch.manual_seed(seed)
        random.seed(seed)
        np.random.seed(seed % 2**32)
