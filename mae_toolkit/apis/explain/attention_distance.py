"""Explain how far the heads of an encoder look."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.sources import (
    EncoderSource,
    add_encoder_arguments,
    add_most,
    choose_images,
    open_extractor,
)
from mae_toolkit.evaluation.embeddings.reading import Images
from mae_toolkit.evaluation.explanation.attention import check_attention
from mae_toolkit.evaluation.explanation.attention_distance import measure_attention_distance
from mae_toolkit.visualization.explanation.attention import draw_attention_distances

MOST = 16


def explain_attention_distance(
    source: EncoderSource,
    images: Images,
    *,
    most: int = MOST,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    device: str | None = None,
) -> Explanation:
    """Show how far each attention head looks: its mean attended distance in pixels, for every block.

    It is the distance from a position to those that it attends to, weighted by the attention (Dosovitskiy et al.,
    arXiv:2010.11929, figure 7). ViT, Eva, Hiera and Swin have attention; other encoders are refused.

    Example::

        explain_attention_distance('runs/photos', 'photos/').numbers['blocks'][0]['distance']

    Args:
        source: Run, exported folder, checkpoint or weights, see :func:`load_encoder`; or a feature extractor.
        images: A folder, files, arrays or pictures of Pillow.
        most: Images that are used, evenly chosen if there are more.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images, or height and width; as in the training if None.
        device: Device; a GPU if there is one.

    Returns:
        The explanation. Its numbers hold for each of ``blocks`` the ``distance`` of every head, the distance of
        ``equal`` attention, and the share of the attention of every head that goes ``elsewhere``, to class and register
        tokens; ``windows`` says whether the block attends within windows.

    Raises:
        UserError: If the encoder has no attention, there are no images, or none can be read.
    """
    extractor = open_extractor(source, encoder, size, device)
    check_attention(extractor.encoder)
    items, names, note = choose_images(images, most)
    found = measure_attention_distance(extractor.encoder, extractor.read_images(items, names))
    first, last = found[0].distance.mean(), found[-1].distance.mean()
    title = 'Mean attention distance'
    picture = draw_attention_distances(
        [one.distance for one in found], [one.equal for one in found], [one.is_windowed for one in found], title
    )
    caption = (
        f'How far from a position each head looks on average: {first:.0f} pixels in the first block and {last:.0f} in '
        'the last. Heads far below the red line are local; those on it spread their attention over all that they see.'
    )
    blocks = [
        {
            'distance': one.distance.round(3).tolist(),
            'equal': round(one.equal, 3),
            'elsewhere': one.elsewhere.round(4).tolist(),
            'stride': one.stride,
            'windows': one.is_windowed,
        }
        for one in found
    ]
    numbers = {'images': len(items) - len(extractor.skipped), 'blocks': blocks}
    return Explanation(title, picture, caption + note, numbers, dict(extractor.skipped))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    add_most(parser, MOST)
    add_encoder_arguments(parser)
