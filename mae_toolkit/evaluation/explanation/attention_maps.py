"""Where the heads of an encoder look from one place of an image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.explanation.attention import AttentionCall, find_places, watch_attention
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.layers.attention_places import AttentionPlaces

QUERIES = ('place', 'class', 'mean')


@dataclass(frozen=True, eq=False)
class AttentionMap:
    """The attention of the heads of a block in one image.

    Attributes:
        weights: (heads, h, w), the attention to each position; NaN where the query does not see it.
        equal: (h, w), what it would be if a query attended equally to all tokens that it sees.
        elsewhere: Share of the attention of each head (heads,) to tokens without a place.
        stride: Pixels per position.
        query: Row and column of the query's middle in pixels; None for the class token and the mean over queries.
    """

    weights: np.ndarray
    equal: np.ndarray
    elsewhere: np.ndarray
    stride: int
    query: tuple[float, float] | None


def compute_attention_maps(
    encoder: Encoder,
    img: Tensor,
    blocks: Sequence[int],
    query: str = 'place',
    place: tuple[float, float] = (0.5, 0.5),
) -> list[AttentionMap]:
    """Compute the attention maps of some blocks.

    Args:
        encoder: The encoder.
        img: One image (1, C, H, W), on its device.
        blocks: The blocks, counted from 1 in the order in which they run.
        query: Who looks: ``'place'``, the position at ``place``; ``'class'``, the class token; ``'mean'``, all
            positions of the image, averaged.
        place: Row and column as shares of the height and width.

    Returns:
        One for each of ``blocks``.

    Raises:
        UserError: If the encoder has no attention, no such block or no class token, or the place lies outside.
    """
    size = img.shape[-2:]
    count = len(find_places(encoder, size))
    check_query(encoder, query, place)
    if not blocks:
        raise UserError(f'No block is asked for: the encoder has blocks 1 to {count}.')
    wrong = [block for block in blocks if not 1 <= block <= count]
    if wrong:
        raise UserError(f'There is no block {wrong[0]}: the encoder has blocks 1 to {count}.')
    found: dict[int, AttentionMap] = {}

    def keep(number: int, call: AttentionCall, places: AttentionPlaces) -> None:
        if number + 1 in blocks:
            found[number + 1] = _make_map(call, places, size, query, place)

    watch_attention(encoder, img, keep)
    return [found[block] for block in blocks]


def check_query(encoder: Encoder, query: str, place: Sequence[float]) -> None:
    """Refuse a query that there is not.

    Raises:
        UserError: In this case.
    """
    if query not in QUERIES:
        raise UserError(f'query={query!r} must be one of {", ".join(QUERIES)}.')
    if query == 'class' and not encoder.has_class_token:
        raise UserError(f'{type(encoder).__name__} has no class token: choose query="place" or "mean".')
    if len(place) != 2 or not all(0 <= share <= 1 for share in place):
        raise UserError(f'place={tuple(place)} must be two shares from 0 to 1, from the top and from the left.')


def _make_map(
    call: AttentionCall, places: AttentionPlaces, size: Sequence[int], query: str, place: Sequence[float]
) -> AttentionMap:
    """Put the attention of a query to the keys on a map of the image."""
    limits = torch.tensor(size, device=places.queries.device)
    is_query = places.queries_within(size)  # (G, S)
    if query == 'place':
        point = torch.tensor(place, device=limits.device) * limits - 1e-3  # of two that are as near, the upper left
        far = (places.queries - point).square().sum(-1).masked_fill(~is_query, torch.inf)
        chosen = torch.zeros_like(is_query).flatten().index_fill_(0, far.argmin(), True).view_as(is_query)
    elif query == 'class':
        chosen = torch.zeros_like(is_query)
        chosen[:, 0] = True
    else:
        chosen = is_query
    weights, equal = _weigh(call, chosen)  # (heads, G, T), (G, T)
    grid = tuple(-(-n // places.stride) for n in size)
    is_shown = places.keys_within(size) & (equal > 0)
    cells = (places.keys[is_shown] / places.stride).long()  # (keys, 2)
    drawn = weights.new_full((1 + len(weights), *grid), torch.nan)
    drawn[:, cells[:, 0], cells[:, 1]] = torch.cat([equal[None], weights])[:, is_shown]
    lost = weights * ~places.keys.isfinite().all(-1)
    elsewhere = (lost.flatten(1).sum(1) / weights.flatten(1).sum(1)).cpu().numpy()
    row, column = places.queries[chosen][0].tolist()
    middle = (row, column) if query == 'place' else None
    return AttentionMap(drawn[1:].cpu().numpy(), drawn[0].cpu().numpy(), elsewhere, places.stride, middle)


def _weigh(call: AttentionCall, chosen: Tensor) -> tuple[Tensor, Tensor]:
    """Average the attention of chosen queries (G, S) within each group: (heads, G, T), and were it equal: (G, T)."""
    weights = call.q.new_zeros(call.q.shape[2], call.q.shape[1], call.k.shape[-2], dtype=torch.float64)
    equal = torch.zeros_like(weights[0])
    for head, rows in call.iterate():
        picked = chosen[:, rows, None]  # (G, s, 1)
        weights[head] += (call.weights(head, rows)[0].double() * picked).sum(1)
        if head == 0:
            sees = call.sees(head, rows)[0].double()
            equal += (sees / sees.sum(-1, keepdim=True).clamp(min=1) * picked).sum(1)
    count = chosen.sum(1).clamp(min=1)[:, None]
    return weights / count, equal / count
