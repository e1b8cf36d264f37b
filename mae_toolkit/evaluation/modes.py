"""Evaluate a model within its training."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode in a ``with`` block, without gradients and compilation, and restore every mode after it.

    Compiled functions run as they are written: they do not see hooks that are registered after their compilation, and
    compiling them again for whole images would take longer than the evaluation.

    Args:
        model: The model, whose parts may be in different modes.
    """
    training = [module for module in model.modules() if module.training]
    if training:  # setting it takes as long as a small encoder takes for an image
        model.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance('force_eager'):
            yield
    finally:
        for module in training:
            module.training = True
