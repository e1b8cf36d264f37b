"""Explain where the heads of an encoder look."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.sources import (
    EncoderSource,
    add_encoder_arguments,
    add_most,
    choose_images,
    open_extractor,
)
from mae_toolkit.apis.feature_pictures import to_shown
from mae_toolkit.argument_types import fraction, positive_int
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.reading import Images
from mae_toolkit.evaluation.explanation.attention import check_attention, count_attention
from mae_toolkit.evaluation.explanation.attention_maps import (
    QUERIES,
    AttentionMap,
    check_query,
    compute_attention_maps,
)
from mae_toolkit.visualization.explanation.attention import MapRow, draw_attention_maps

MOST, MOST_ROWS = 2, 120
LOOKS = {'place': 'the marked position', 'class': 'the class token', 'mean': 'all positions, on average'}


def explain_attention(
    source: EncoderSource,
    images: Images,
    *,
    blocks: Sequence[int] | None = None,
    query: str = 'place',
    place: Sequence[float] = (0.5, 0.5),
    most: int = MOST,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    device: str | None = None,
) -> Explanation:
    """Show where each attention head looks, from a place of an image, from its class token, or on average.

    ViT, Eva, Hiera and Swin have attention, in Hiera and Swin (and ViT and Eva with windows) partly within windows;
    other encoders are refused.

    Example::

        explain_attention('runs/photos', 'photos/1.jpg', blocks=[1, 12], place=(0.25, 0.5)).picture

    Args:
        source: Run, exported folder, checkpoint or weights, see :func:`load_encoder`; or a feature extractor.
        images: A folder, files, arrays or pictures of Pillow.
        blocks: Blocks that are shown, counted from 1; the first, the middle and the last if None.
        query: Who looks: ``'place'``, the position at ``place``; ``'class'``, the class token; ``'mean'``, all
            positions, averaged.
        place: Row and column of the position, as shares of height and width.
        most: Images that are used, evenly chosen if there are more.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images, or height and width; as in the training if None.
        device: Device; a GPU if there is one.

    Returns:
        The explanation. Its numbers hold for each of ``maps`` the ``image``, the ``block``, and per head the share of
        the attention that goes ``elsewhere``, to class and register tokens, and the greatest attention to a position in
        multiples of equal attention (``peak``).

    Raises:
        UserError: If the encoder has no attention, no such block or no class token, or no image can be read.
    """
    extractor = open_extractor(source, encoder, size, device)
    check_attention(extractor.encoder)
    check_query(extractor.encoder, query, place)
    items, names, note = choose_images(images, most)
    planned = len(items) * (3 if blocks is None else len(blocks))
    if planned > MOST_ROWS:
        raise UserError(
            f'A picture has {MOST_ROWS} rows of maps at most, and {len(items)} images with {planned // len(items)} '
            f'blocks each would have {planned}: choose fewer images (most, or --max-images) or fewer blocks.'
        )
    rows, numbers = [], []
    at = (float(place[0]), float(place[1]))
    for batch in extractor.read_batches(items, names):
        for index, img in zip(batch.indices, batch.imgs, strict=True):
            chosen = choose_blocks(count_attention(extractor.encoder, img.shape[-2:])) if blocks is None else blocks
            picture = to_shown(extractor, img)
            for block, found in zip(
                chosen, compute_attention_maps(extractor.encoder, img[None], chosen, query, at), strict=True
            ):
                rows.append(_make_row(picture, f'block {block}', found))
                numbers.append({'image': names[index], 'block': block} | _count(found))
    title = f'Attention of {LOOKS[query]}'
    caption = (
        f'How much {LOOKS[query]}{", attend" if query == "mean" else " attends"} to each position, for every head, in '
        'multiples of equal attention.'
    )
    if any(np.isnan(row.maps).any() for row in rows):
        caption += ' Gray positions are not seen, as they lie in other windows.'
    return Explanation(
        title, draw_attention_maps(rows, title), caption + note, {'maps': numbers}, dict(extractor.skipped)
    )


def choose_blocks(count: int) -> list[int]:
    """Choose the first, the middle and the last of so many blocks, counted from 1."""
    return sorted({1, (count + 1) // 2, count})


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument(
        '--blocks', type=positive_int, nargs='+', help='counted from 1; the first, the middle and the last by default'
    )
    parser.add_argument('--query', choices=QUERIES, default='place', help='who looks; a place of the image by default')
    parser.add_argument(
        '--place',
        type=fraction,
        nargs=2,
        default=(0.5, 0.5),
        metavar=('ROW', 'COLUMN'),
        help='as shares of height and width; the center by default',
    )
    add_most(parser, MOST)
    add_encoder_arguments(parser)


def _make_row(picture: np.ndarray, label: str, found: AttentionMap) -> MapRow:
    crop = picture.shape[0] / found.stride, picture.shape[1] / found.stride
    return MapRow(picture, label, found.query, found.weights / found.equal, crop)


def _count(found: AttentionMap) -> dict[str, Any]:
    peak = np.nanmax(found.weights / found.equal, axis=(1, 2))
    return {'elsewhere': found.elsewhere.round(4).tolist(), 'peak': peak.round(2).tolist()}
