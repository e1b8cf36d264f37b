"""Train a small head on features in memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Optimizer

from mae_toolkit.evaluation.probes.data import Part, ProbeData, ProbeResult, check_classes, compute_accuracy

BATCH, FEWEST = 256, 8  # images per step: an eighth of few images, so that an epoch has several steps
PREDICT = 256  # images that are classified at once
WARMUP = 0.1  # share of the steps in which the learning rate rises


class Standardize(nn.Module):
    """Subtract the mean of each channel and divide by its standard deviation, over all training images and positions.

    A channel that never changes is only shifted, as scikit-learn's ``StandardScaler`` has it.

    Args:
        features: (N, C) or (N, C, h, w).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, features: Tensor) -> None:
        super().__init__()
        axes = (0, *range(2, features.ndim))
        total = math.prod(features.shape[axis] for axis in axes)
        parts = [part.double() for part in features.split(PREDICT)]
        mean = sum(part.sum(axes) for part in parts) / total
        shape = (1, -1, *(1 for _ in features.shape[2:]))
        squares = sum((part - mean.view(shape)).square().sum(axes) for part in parts) / total
        std = squares.sqrt()
        std[std <= 10 * torch.finfo(std.dtype).eps * mean.abs()] = 1.0
        self.register_buffer('mean', mean.float().view(shape))
        self.register_buffer('std', std.float().view(shape))

    def forward(self, x: Tensor) -> Tensor:
        """Standardize (B, C, ...)."""
        return (x.float() - self.mean) / self.std


@dataclass(frozen=True)
class Recipe:
    """How a head is trained.

    Attributes:
        build: Makes a new head of training features, with random weights; its input are features (B, C, ...).
        optimizer: Makes the optimizer of a head for a learning rate.
        rates: Learning rates that are tried.
        epochs: Passes over the training images.
    """

    build: Callable[[Part, int], nn.Module]
    optimizer: Callable[[nn.Module, float], Optimizer]
    rates: tuple[float, ...]
    epochs: int


def run_head(data: ProbeData, recipe: Recipe, what: str) -> ProbeResult:
    """Train a head with several learning rates, choose one on held-out training images, and train on all of them.

    Args:
        data: Features.
        recipe: How it is trained.
        what: What it is called in an error.

    Raises:
        UserError: If there is one class only.
    """
    fit, choose = data.fit, data.choose
    check_classes(fit.labels, what)
    tried = {}
    for rate in recipe.rates:
        head = train_head(fit, data.classes, recipe, rate, data.seed)
        scores = compute_scores(head, choose.features)
        accuracy = compute_accuracy(scores.argmax(1), choose.labels)
        tried[rate] = accuracy, -float(cross_entropy(scores, choose.labels))  # the loss where accuracies are equal
    best = max(tried, key=lambda rate: tried[rate])
    head = train_head(data.train, data.classes, recipe, best, data.seed)
    val, test = (
        {'accuracy': compute_accuracy(compute_scores(head, part.features).argmax(1), part.labels)}
        for part in (data.val, data.test)
    )
    return ProbeResult(val, test, {'learning rate': best, 'epochs': recipe.epochs, 'held-out accuracy': tried[best][0]})


def train_head(part: Part, classes: int, recipe: Recipe, rate: float, seed: int) -> nn.Module:
    """Train a head by cross-entropy, with a learning rate that rises, and then falls to zero as a cosine does.

    Args:
        part: Features and labels.
        classes: Number of classes.
        recipe: How it is trained.
        rate: Greatest learning rate.
        seed: Seed of the weights and of the order of the images; the seeds of torch stay as they are.

    Returns:
        The head, in evaluation mode.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        head = recipe.build(part, classes).train()
        optimizer = recipe.optimizer(head, rate)
        batch = min(BATCH, max(FEWEST, len(part) // 8), len(part))
        steps = len(part) // batch  # per epoch; what is left over comes in another epoch
        total = recipe.epochs * steps
        for step in range(total):
            if step % steps == 0:
                order = torch.randperm(len(part))
            rows = order[step % steps * batch :][:batch]
            for group in optimizer.param_groups:
                group['lr'] = rate * _schedule((step + 1) / total)
            loss = cross_entropy(head(part.features[rows]), part.labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return head.eval()


@torch.no_grad()
def compute_scores(head: nn.Module, features: Tensor) -> Tensor:
    """Compute the scores of classes (N, K) of features (N, C, ...)."""
    return torch.cat([head(part) for part in features.split(PREDICT)])


def _schedule(progress: float) -> float:
    """Return the share of the greatest learning rate at a share of the training, from 0 to 1."""
    if progress < WARMUP:
        return progress / WARMUP
    return (1 + math.cos(math.pi * (progress - WARMUP) / (1 - WARMUP))) / 2
