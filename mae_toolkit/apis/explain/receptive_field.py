"""Explain how far a position of a feature map reaches: its effective receptive field."""

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
from mae_toolkit.argument_types import positive_int, seed_number
from mae_toolkit.evaluation.embeddings.extractor import check_levels
from mae_toolkit.evaluation.embeddings.reading import Images
from mae_toolkit.evaluation.explanation.receptive_field import SHARES, measure_receptive_field
from mae_toolkit.printing import format_count
from mae_toolkit.visualization.explanation.receptive_field import draw_receptive_field

MOST = 32


def explain_receptive_field(
    source: EncoderSource,
    images: Images,
    *,
    level: int | None = None,
    most: int = MOST,
    seed: int = 0,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    device: str | None = None,
) -> Explanation:
    """Show which pixels the center position of a feature map depends on, and how far it reaches.

    The effective receptive field (Luo et al., arXiv:1701.04128) is the gradient of the features with respect to the
    pixels, averaged over images. It is mostly much smaller than what an architecture could see.

    Example::

        explain_receptive_field('runs/photos', 'photos/', level=1).numbers['radius']

    Args:
        source: Run, exported folder, checkpoint or weights, see :func:`load_encoder`; or a feature extractor.
        images: A folder, files, arrays or pictures of Pillow.
        level: Level, counted from 1 for the finest; the coarsest if None.
        most: Images that are used, evenly chosen if there are more.
        seed: Seed of the signs with which channels are summed.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images, or height and width; as in the training if None.
        device: Device; a GPU if there is one.

    Returns:
        The explanation. Its numbers: ``radius``, the pixels within which 50 and 95% of the gradient lie; ``area``, the
        smallest number of pixels that holds as much; ``stride``, ``center`` and ``size`` in pixels.

    Raises:
        UserError: If there are no images, none can be read, or there is no such level.
    """
    extractor = open_extractor(source, encoder, size, device)
    levels = len(extractor.encoder.out_channels)
    level = levels if level is None else level
    check_levels([level], levels)
    items, names, note = choose_images(images, most)
    field = measure_receptive_field(extractor.encoder, extractor.read_images(items, names), level, seed)
    radius, area = ({share: measure(share) for share in SHARES} for measure in (field.radius, field.area))
    title = f'Effective receptive field of level {level}'
    picture = draw_receptive_field(field.gradient, field.center, radius, f'{title} (stride {field.stride})')
    height, width = field.gradient.shape
    caption = (
        f'How strongly the center position of level {level} depends on each pixel, over '
        f'{format_count(field.images, "image")}: half of the gradient lies within {radius[0.5]:.0f} pixels, 95% within '
        f'{radius[0.95]:.0f}. Brightness is the fourth root, so that weak and far pixels show.'
    )
    numbers = {
        'level': level,
        'stride': field.stride,
        'size': [height, width],
        'center': list(field.center),
        'images': field.images,
        'radius': {f'{share:g}': round(value, 2) for share, value in radius.items()},
        'area': {f'{share:g}': value for share, value in area.items()},
        'area_share': {f'{share:g}': round(value / (height * width), 4) for share, value in area.items()},
    }
    return Explanation(title, picture, caption + note, numbers, dict(extractor.skipped))


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument('--level', type=positive_int, help='level, 1 for the finest; the coarsest by default')
    add_most(parser, MOST)
    parser.add_argument('--seed', type=seed_number, default=0, help='seed of the signs with which channels are summed')
    add_encoder_arguments(parser)
