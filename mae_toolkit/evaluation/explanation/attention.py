"""Attention of an encoder, watched for the length of one forward: how far it reaches, and where a token looks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.modes import evaluating
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.layers.attention_places import AttentionPlaces

ARGUMENTS = ('query', 'key', 'value', 'attn_mask')  # of scaled_dot_product_attention, as far as they are used here
MOST_WEIGHTS = 1 << 24  # that are held at once
INSTEAD = (
    'receptive fields, dependence and CKA work for every encoder (tools/explain.py receptive-field, dependence, cka)'
)


class AttentionCall(NamedTuple):
    """One attention over a batch of whole images.

    Attributes:
        q: Queries (B, G, heads, S, d) of G groups of tokens.
        k: Keys (B, G, heads, T, d).
        mask: What is added to the scores, or bool and False where a query does not see a key; it broadcasts to
            (B, G, heads, S, T). None for nothing.
        scale: Factor of the scores.
    """

    q: Tensor
    k: Tensor
    mask: Tensor | None
    scale: float

    def weights(self, head: int, rows: slice = slice(None)) -> Tensor:
        """Compute the attention (B, G, s, T) of a head, float32 or finer, for some of the queries."""
        scores = (self.q[:, :, head, rows] @ self.k[:, :, head].mT).mul(self.scale)
        scores = scores.to(torch.promote_types(scores.dtype, torch.float32))
        if self.mask is not None:
            mask = self.mask.expand(*self.q.shape[:-1], self.k.shape[-2])[:, :, head, rows]
            scores = scores.masked_fill(~mask, -torch.inf) if mask.dtype == torch.bool else scores + mask
        return scores.softmax(-1)

    def sees(self, head: int, rows: slice = slice(None)) -> Tensor:
        """Return (B, G, s, T) bool, whether queries see keys."""
        if self.mask is None:
            return self.q.new_ones(
                *self.q.shape[:2], self.q[0, 0, 0, rows].shape[0], self.k.shape[-2], dtype=torch.bool
            )
        mask = self.mask.expand(*self.q.shape[:-1], self.k.shape[-2])[:, :, head, rows]
        return mask if mask.dtype == torch.bool else mask > -torch.inf

    def iterate(self) -> Iterator[tuple[int, slice]]:
        """Yield heads and ranges of queries whose weights fit into memory."""
        count, queries = self.q[..., 0, 0, 0].numel() * self.k.shape[-2], self.q.shape[-2]
        step = max(1, min(queries, MOST_WEIGHTS // count))
        for head in range(self.q.shape[2]):
            for first in range(0, queries, step):
                yield head, slice(first, first + step)


class _Watch(TorchFunctionMode):
    """Pass the arguments of each ``scaled_dot_product_attention`` to a function, which is then called as it is."""

    def __init__(self, note: Callable[[int, Mapping[str, Any]], object]) -> None:
        super().__init__()
        self.note, self.count = note, 0

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Call a function of torch."""
        kwargs = kwargs or {}
        if func is scaled_dot_product_attention:
            self.note(self.count, dict(zip(ARGUMENTS, args, strict=False)) | kwargs)
            self.count += 1
        return func(*args, **kwargs)


def check_attention(encoder: Encoder) -> None:
    """Refuse an encoder that has no attention, before images are read.

    Raises:
        UserError: In this case.
    """
    find_places(encoder, (encoder.pad_unit, encoder.pad_unit))


def count_attention(encoder: Encoder, size: Sequence[int]) -> int:
    """Count the blocks with attention that images of a size in pixels run through."""
    return len(find_places(encoder, size))


def find_places(encoder: Encoder, size: Sequence[int]) -> Sequence[AttentionPlaces]:
    """Find where the tokens of each attention of an encoder lie.

    Args:
        encoder: The encoder.
        size: Pixels of the images; other sizes than :attr:`~Encoder.pad_unit` divides are padded.

    Raises:
        UserError: If the encoder has no attention, or does not say where its tokens are.
    """
    places = encoder.place_attention([n + -n % encoder.pad_unit for n in size])
    if not places:
        raise UserError(
            f'{type(encoder).__name__} has no attention to look at (or no place_attention that says where its tokens '
            f'are): {INSTEAD}.'
        )
    return places


def watch_attention(
    encoder: Encoder, imgs: Tensor, handle: Callable[[int, AttentionCall, AttentionPlaces], object]
) -> None:
    """Encode whole images, and pass what each attention computes with to a function.

    Args:
        encoder: The encoder.
        imgs: (B, C, H, W), on its device.
        handle: Gets the number of the attention, counted from 0, its queries and keys, and where they lie. What it
            does not keep is freed.

    Raises:
        UserError: If the encoder has no attention, or computes it in another way than its places say.
    """
    places = [_to(p, imgs.device) for p in find_places(encoder, imgs.shape[-2:])]

    def note(number: int, arguments: Mapping[str, Any]) -> None:
        if number < len(places):
            handle(number, _arrange(arguments, places[number], len(imgs)), places[number])

    with evaluating(encoder), _Watch(note) as watch:
        encoder.encode(imgs)
    if watch.count != len(places):
        raise UserError(
            f'{type(encoder).__name__} has {len(places)} blocks with attention, and {watch.count} calls of '
            'scaled_dot_product_attention were seen: leave TIMM_FUSED_ATTN unset, or choose an architecture with one '
            f'attention per block; {INSTEAD}.'
        )


def _arrange(arguments: Mapping[str, Any], places: AttentionPlaces, images: int) -> AttentionCall:
    """Bring the arguments of an attention into the order of :class:`AttentionCall`."""
    q, k, mask = arguments['query'], arguments['key'], arguments.get('attn_mask')
    dims, groups = q.dim(), len(places.keys)

    def order(x: Tensor) -> Tensor:
        if places.heads_before_groups and dims == 5:
            return x.transpose(1, 2)
        return x.reshape(images, groups, *x.shape[-3:])

    if k.shape[-3] != q.shape[-3]:  # grouped queries
        k = k.repeat_interleave(q.shape[-3] // k.shape[-3], -3)
    expected = images * groups, places.queries.shape[1], places.keys.shape[1]
    q, k = order(q), order(k)
    if (q.shape[0] * q.shape[1], q.shape[-2], k.shape[-2]) != expected:
        raise UserError(f'Attention over {tuple(q.shape)} is not that of {tuple(places.queries.shape)} tokens.')
    if not (q.isfinite().all() and k.isfinite().all()):
        raise UserError('The attention is not finite: the weights are broken, or the image is far from the training.')
    if mask is not None:
        mask = mask.expand(*arguments['query'].shape[:-1], k.shape[-2]) if mask.dim() == dims else mask
        mask = order(mask) if mask.dim() == dims else mask
    scale = arguments.get('scale')
    return AttentionCall(q, k, mask, q.shape[-1] ** -0.5 if scale is None else scale)


def _to(places: AttentionPlaces, device: torch.device) -> AttentionPlaces:
    return places._replace(queries=places.queries.to(device), keys=places.keys.to(device))
