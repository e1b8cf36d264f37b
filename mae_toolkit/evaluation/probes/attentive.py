"""The efficient probe: learned queries attend to the positions of a map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from mae_toolkit.evaluation.probes.data import Part, ProbeData, ProbeResult
from mae_toolkit.evaluation.probes.training import Recipe, Standardize, run_head

QUERIES = 32
EPOCHS = 60
RATES = (1e-3, 3e-3, 1e-2)


class EfficientProbe(nn.Module):
    """Classify maps by several learned queries (efficient probing: arXiv:2506.10178, ICLR 2026).

    Each query attends to the positions by the products of its vector with theirs: there is no projection of queries or
    keys, which other attentive probes have. Of the values ``W x`` each query averages its own share of the channels.
    The average is taken before the projection, which gives the same and takes a fraction of the time::

        sum_i a_i (W x_i) = W (sum_i a_i x_i)

    Args:
        features: Training maps (N, C, h, w), by which channels are standardized: encoders differ in scale by orders of
            magnitude, and the products with it.
        classes: Number of classes.
        queries: Most queries; the greatest number up to it by which the channels are divisible is used.
    """

    def __init__(self, features: Tensor, classes: int, queries: int = QUERIES) -> None:
        super().__init__()
        channels = features.shape[1]
        count = max(n for n in range(1, queries + 1) if channels % n == 0)
        self.standardize = Standardize(features)
        self.queries = nn.Parameter(torch.randn(count, channels) * 0.02)
        self.value = nn.Parameter(torch.empty(channels, channels))  # W, (output, input)
        nn.init.xavier_uniform_(self.value)
        self.norm = nn.BatchNorm1d(channels, affine=False, eps=1e-6)
        self.classify = nn.Linear(channels, classes)
        nn.init.normal_(self.classify.weight, std=0.01)
        nn.init.zeros_(self.classify.bias)

    def pool(self, x: Tensor) -> Tensor:
        """Pool maps (B, C, h, w) to vectors (B, C)."""
        tokens = self.standardize(x).flatten(2)  # (B, C, N)
        attention = self.attend(tokens)  # (B, M, N)
        averages = attention @ tokens.mT  # (B, M, C)
        count, channels = self.queries.shape
        shares = self.value.view(count, channels // count, channels)  # the rows of W of each query
        return torch.einsum('bmc,mdc->bmd', averages, shares).flatten(1)

    def attend(self, tokens: Tensor) -> Tensor:
        """Compute how much each query looks at each position: (B, C, N) -> (B, M, N), with sums of 1."""
        return (self.queries @ tokens * tokens.shape[1] ** -0.5).softmax(2)

    def forward(self, x: Tensor) -> Tensor:
        """Classify maps: (B, C, h, w) -> (B, classes)."""
        return self.classify(self.norm(self.pool(x)))


def run_attentive(data: ProbeData, queries: int = QUERIES, epochs: int = EPOCHS) -> ProbeResult:
    """Train an efficient probe with AdamW; the learning rate is chosen on the held-out part of the training images.

    Published numbers were trained by LARS with 4096 images per step, which small sets do not have.

    Args:
        data: Maps.
        queries: Most queries.
        epochs: Passes over the training images.

    Raises:
        UserError: If there is one class only.
    """

    def build(part: Part, classes: int) -> nn.Module:
        return EfficientProbe(part.features, classes, queries)

    def make_optimizer(head: nn.Module, rate: float) -> torch.optim.Optimizer:
        return torch.optim.AdamW(head.parameters(), lr=rate, weight_decay=0.01)

    return run_head(data, Recipe(build, make_optimizer, RATES, epochs), 'An attentive probe')
