"""The linear probe: one layer on standardized vectors, trained by LARS or SGD."""

from __future__ import annotations

from functools import partial
from typing import Literal

import torch
from timm.optim import Lars
from torch import nn

from mae_toolkit.evaluation.probes.data import Part, ProbeData, ProbeResult
from mae_toolkit.evaluation.probes.training import Recipe, Standardize, run_head

EPOCHS = 90
MOMENTUM = 0.9
RATES = {'lars': (1.0, 5.0, 25.0), 'sgd': (0.01, 0.1, 1.0)}


def build_linear(part: Part, classes: int) -> nn.Module:
    """Make a linear layer behind the standardization of vectors, with MAE's initialization."""
    layer = nn.Linear(part.features.shape[1], classes)
    nn.init.normal_(layer.weight, std=0.01)
    nn.init.zeros_(layer.bias)
    return nn.Sequential(Standardize(part.features), layer)


def make_optimizer(head: nn.Module, rate: float, kind: str) -> torch.optim.Optimizer:
    """Make LARS, whose steps of matrices are scaled and those of vectors are not as in MAE, or SGD; without decay."""
    if kind == 'sgd':
        return torch.optim.SGD(head.parameters(), lr=rate, momentum=MOMENTUM)
    groups = [
        {'params': [p for p in head.parameters() if p.ndim > 1], 'always_adapt': True},
        {'params': [p for p in head.parameters() if p.ndim <= 1], 'always_adapt': False},
    ]
    return Lars(groups, lr=rate, momentum=MOMENTUM, trust_coeff=0.001)


def run_linear(data: ProbeData, optimizer: Literal['lars', 'sgd'] = 'lars', epochs: int = EPOCHS) -> ProbeResult:
    """Train a linear layer on standardized vectors, as MAE's linear probing does on features that it computes once.

    MAE normalizes by a batch norm without weights (arXiv:2111.06377, appendix A.1), which becomes the statistics of the
    training images here. The learning rate is chosen on the held-out part of the training images.

    Args:
        data: Vectors.
        optimizer: LARS as in MAE, or SGD.
        epochs: Passes over the training images.

    Raises:
        UserError: If there is one class only.
    """
    recipe = Recipe(build_linear, partial(make_optimizer, kind=optimizer), RATES[optimizer], epochs)
    return run_head(data, recipe, 'A linear probe')
