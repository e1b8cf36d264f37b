"""How far the heads of an encoder look: the mean attention distance."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.explanation.attention import AttentionCall, watch_attention
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.layers.attention_places import AttentionPlaces


@dataclass(frozen=True, eq=False)
class AttentionDistance:
    """How far the heads of a block look.

    Attributes:
        distance: Mean attended distance of each head (heads,), in pixels.
        equal: What it would be if a query attended equally to all positions that it sees.
        elsewhere: Share of the attention of each head (heads,) to tokens without a place: class and register tokens,
            and the padding of windows.
        stride: Pixels from a key to the next.
        is_windowed: Whether the block attends within windows.
    """

    distance: np.ndarray
    equal: float
    elsewhere: np.ndarray
    stride: int
    is_windowed: bool


def measure_attention_distance(encoder: Encoder, batches: Iterable[Tensor]) -> list[AttentionDistance]:
    """Measure the mean attention distance of every block and head (Dosovitskiy et al., arXiv:2010.11929, figure 7).

    It is the distance from a query to each position, weighted by the attention, and averaged over queries and images.
    Queries are the positions that cover part of the image. Attention to tokens without a place is left out, and the
    rest scaled up to 1.

    Args:
        encoder: The encoder.
        batches: Images (B, C, H, W), on its device.

    Returns:
        The distances of each block, in the order in which blocks run.

    Raises:
        UserError: If the encoder has no attention, or there are no images.
    """
    sums: dict[int, _Sums] = {}
    for imgs in batches:
        size = imgs.shape[-2:]

        def add(number: int, call: AttentionCall, places: AttentionPlaces, size: Sequence[int] = size) -> None:
            sums.setdefault(number, _Sums(call.q.shape[2], places)).add(call, places, size)

        watch_attention(encoder, imgs, add)
    if not sums:
        raise UserError('There are no images to average over.')
    return [sums[number].finish() for number in range(len(sums))]


class _Sums:
    """Running sums of one block."""

    def __init__(self, heads: int, places: AttentionPlaces) -> None:
        self.distance, self.elsewhere = np.zeros(heads), np.zeros(heads)
        self.equal = self.queries = 0.0
        self.stride, self.is_windowed = places.stride, len(places.keys) > 1

    def add(self, call: AttentionCall, places: AttentionPlaces, size: Sequence[int]) -> None:
        """Add the queries of a batch of images of a size in pixels."""
        is_query = places.queries_within(size)  # (G, S)
        has_place = places.keys.isfinite().all(-1)  # (G, T)
        keys = places.keys.nan_to_num()
        self.queries += float(is_query.sum()) * len(call.q)
        for head, rows in call.iterate():
            counted = is_query[:, rows, None] & has_place[:, None]  # (G, s, T)
            distance = torch.cdist(places.queries[:, rows].nan_to_num().double(), keys.double())  # (G, s, T)
            distance = distance.masked_fill(~counted, 0)
            weights = call.weights(head, rows).double()  # (B, G, s, T)
            self.distance[head] += _average(weights, counted, distance)
            lost = (weights * (is_query[:, rows, None] & ~has_place[:, None])).sum()
            self.elsewhere[head] += float(lost)
            if head == 0:
                self.equal += _average(call.sees(head, rows).double(), counted, distance)

    def finish(self) -> AttentionDistance:
        """Divide by the number of queries."""
        distance, elsewhere = self.distance / self.queries, self.elsewhere / self.queries
        return AttentionDistance(distance, self.equal / self.queries, elsewhere, self.stride, self.is_windowed)


def _average(weights: Tensor, counted: Tensor, distance: Tensor) -> float:
    """Average distances (G, s, T) by weights (B, G, s, T) over the keys that count, and sum over queries and images."""
    kept = (weights * counted).sum(-1).clamp(min=1e-30)
    return float(((weights * distance).sum(-1) / kept).sum())
