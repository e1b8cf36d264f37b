"""Feature maps in colors that mean the same in every image: main components, fitted once and applied to others."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.sources import (
    EncoderSource,
    add_encoder_arguments,
    add_most,
    choose_images,
    open_extractor,
)
from mae_toolkit.apis.feature_pictures import to_shown
from mae_toolkit.argument_types import positive_int
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import FeatureExtractor
from mae_toolkit.evaluation.embeddings.cache import hash_weights
from mae_toolkit.evaluation.embeddings.extractor import check_levels
from mae_toolkit.evaluation.embeddings.reading import ONE_IMAGE, Images, refuse_none_read
from mae_toolkit.evaluation.explanation.components import SIDES, FeatureComponents, fit_components
from mae_toolkit.printing import format_count
from mae_toolkit.visualization.explanation.feature_colors import draw_feature_colors

MOST, SHOWN = 64, 6


def explain_components(
    source: EncoderSource,
    images: Images,
    *,
    levels: Sequence[int] | None = None,
    fit_on: Images | None = None,
    components: str | Path | Mapping[str, Any] | None = None,
    foreground: str | None = None,
    most: int = MOST,
    shown: int = SHOWN,
    side: int | None = None,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    device: str | None = None,
) -> Explanation:
    """Color the positions of feature maps by the three directions in which they vary most.

    The directions are those of all the images together, so that equal colors in several images mean similar features
    (as in DINOv2, arXiv:2304.07193, figure 1). ``numbers['components']`` holds them, for other images later.

    Example::

        first = explain_components('runs/photos', 'photos/', levels=[3, 4])
        explain_components('runs/photos', 'new/', components=first.numbers)  # the same colors mean the same

    Args:
        source: Run, exported folder, checkpoint or weights, see :func:`load_encoder`; or a feature extractor.
        images: A folder, files, arrays or pictures of Pillow.
        levels: Levels, counted from 1 for the finest; all if None, or all of ``components``.
        fit_on: Images whose features decide the colors; the images themselves if None.
        components: The JSON file of an earlier explanation, or its numbers: nothing is fitted.
        foreground: Leave the background black, which the first component separates: ``'above'`` or ``'below'`` says on
            which side of 0 the foreground is, ``'auto'`` takes the side that is rarer at the borders of the images.
        most: Images that the components are fitted on, evenly chosen if there are more.
        shown: Images that are drawn, evenly chosen.
        side: Pixels of the longer side of each picture; if None, that of what the encoder saw, and 224 or more.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images, or height and width; as in the training if None.
        device: Device; a GPU if there is one.

    Returns:
        The explanation. Its numbers: for each level its ``stride``, the shares of the variance that are ``explained``,
        and the ``components``.

    Raises:
        UserError: If there are no images, none can be read, there is no such level, ``components`` are of another
            encoder, or arguments exclude each other.
    """
    if components is not None and (fit_on is not None or foreground is not None):
        raise UserError('Components are given, so that nothing is fitted: leave fit_on and foreground out.')
    if not isinstance(images, ONE_IMAGE):
        images = list(images)  # which are read twice
    extractor = open_extractor(source, encoder, size, device)
    weights, skipped, note = hash_weights(extractor.encoder), dict[str, str](), ''
    known = None if components is None else _read_components(components, weights)
    chosen = list(dict.fromkeys(levels or known or range(1, len(extractor.encoder.out_channels) + 1)))
    check_levels(chosen, len(extractor.encoder.out_channels))
    if known is None:
        items, names, note = choose_images(images if fit_on is None else fit_on, most)
        maps = _encode(extractor, items, names, chosen)[1]
        skipped |= extractor.skipped
        fitted = {level: fit_components(maps[level], foreground) for level in chosen}
        about = {'images': len(maps[chosen[0]]), 'fitted_on': 'the images' if fit_on is None else 'other images'}
    else:
        if missing := [level for level in chosen if level not in known]:
            raise UserError(f'The components are of the levels {sorted(known)}, and level {missing[0]} is asked for.')
        fitted, about = {level: known[level] for level in chosen}, {'images': 0, 'fitted_on': 'earlier components'}
    items, names, _ = choose_images(images, shown)
    seen, maps = _encode(extractor, items, names, chosen)
    colors = [fitted[level].color(maps[level]) for level in chosen]
    strides = [extractor.encoder.out_strides[level - 1] for level in chosen]
    parts = [(level, stride, fitted[level].explained) for level, stride in zip(chosen, strides, strict=True)]
    has_foreground = any(one.foreground is not None for one in fitted.values())
    picture = draw_feature_colors(seen, list(zip(*colors, strict=True)), parts, side, has_foreground)
    numbers = about | {
        'encoder': weights,
        'levels': [
            {'level': level, 'stride': stride, 'explained': [round(share, 6) for share in shares]}
            for level, stride, shares in parts
        ],
        'components': {str(level): fitted[level].to_dict() for level in chosen},
    }
    caption = _describe(about, fitted) + note
    return Explanation('Features in colors', picture, caption, numbers, skipped | dict(extractor.skipped))


def read_components(source: str | Path | Mapping[str, Any]) -> dict[int, FeatureComponents]:
    """Read the components of an explanation, by level.

    Args:
        source: The JSON file of the explanation, or its numbers.

    Raises:
        UserError: If the file holds no components.
    """
    return _read_components(source, None)


def _read_components(source: str | Path | Mapping[str, Any], weights: str | None) -> dict[int, FeatureComponents]:
    """Read components, which must be those of an encoder if its hash is given."""
    name = 'The numbers' if isinstance(source, Mapping) else str(source)
    try:
        numbers = source if isinstance(source, Mapping) else json.loads(Path(source).read_text())['numbers']
        found = {int(level): FeatureComponents.from_dict(one) for level, one in numbers['components'].items()}
        made_by = numbers['encoder']
    except (FileNotFoundError, IsADirectoryError):
        raise UserError(f'There is no file {source}: name the JSON of an earlier explanation by components.') from None
    except (KeyError, TypeError, ValueError, AttributeError):
        raise UserError(
            f'{name}: no components are in it; name the JSON of an earlier explanation by components.'
        ) from None
    if weights is not None and made_by != weights:
        raise UserError(
            f'{name}: the components are of an encoder of the hash {made_by}, and this one has {weights}: colors mean '
            'the same within one encoder only.'
        )
    return found


def _encode(
    extractor: FeatureExtractor, items: Sequence[Any], names: Sequence[str], levels: Sequence[int]
) -> tuple[list[Any], dict[int, list[Tensor]]]:
    """Return what the encoder saw of each image, and its maps (C, h, w) by level."""
    seen, maps = [], {level: list[Tensor]() for level in levels}
    for batch in extractor.encode(items, names):
        seen += [to_shown(extractor, img) for img in batch.imgs]
        for level in levels:
            maps[level] += list(batch.features.maps[level - 1].float().cpu())
    if not seen:
        refuse_none_read(len(items), extractor.skipped)
    return seen, maps


def _describe(about: Mapping[str, Any], fitted: Mapping[int, FeatureComponents]) -> str:
    of = {
        'the images': f'fitted on {format_count(about["images"], "of these images", "of these images")}',
        'other images': f'fitted on {format_count(about["images"], "other image")}',
        'earlier components': 'fitted earlier, on other images',
    }[about['fitted_on']]
    text = f'Red, green and blue are the three main components of the features of each level, {of}. Within a column, '
    text += 'the same color means similar features in all images; colors of different columns have nothing in common.'
    shares = [one.foreground.share for one in fitted.values() if one.foreground is not None]
    if shares:
        text += ' Black positions lie on the background side of the first component; '
        text += (
            f'{min(shares):.0%} of the positions are foreground.'
            if len(shares) == 1
            else (f'{min(shares):.0%} to {max(shares):.0%} of the positions are foreground.')
        )
    return text


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument('--levels', type=positive_int, nargs='+', help='levels, 1 for the finest; all by default')
    parser.add_argument('--fit-on', nargs='+', metavar='IMAGES', help='images whose features decide the colors')
    parser.add_argument('--components', metavar='JSON', help='file of an earlier explanation: nothing is fitted')
    parser.add_argument(
        '--foreground', choices=SIDES, help='leave the background black: the side of the first component'
    )
    parser.add_argument('--shown', type=positive_int, default=SHOWN, help=f'images that are drawn; {SHOWN} if more')
    parser.add_argument('--side', type=positive_int, help='pixels of the longer side of each picture')
    add_most(parser, MOST)
    add_encoder_arguments(parser)
