"""Explain how alike the layers of two encoders are."""

from __future__ import annotations

import argparse
import copy
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.sources import (
    EncoderSource,
    add_encoder_arguments,
    add_most,
    choose_images,
    open_extractor,
)
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import FeatureExtractor
from mae_toolkit.evaluation.embeddings.reading import Images
from mae_toolkit.evaluation.explanation.cka import FEWEST, compare_layers
from mae_toolkit.evaluation.explanation.layers import name_layers
from mae_toolkit.printing import format_count, printable, some
from mae_toolkit.visualization.explanation.cka import draw_cka

MOST, BATCH = 128, 32
LONGEST = 40  # characters of the name of a network


def explain_cka(
    source: EncoderSource,
    images: Images,
    *,
    other: EncoderSource | None = None,
    most: int = MOST,
    encoder: str | Mapping[str, Any] | None = None,
    other_encoder: str | Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    device: str | None = None,
) -> Explanation:
    """Show how alike the layers of two encoders are, or of one encoder at two moments of its training: linear CKA.

    Layers are the blocks of ViT, Eva, Hiera, Swin and ConvNeXt, and the levels of SparseCNN. The encoders may be of
    different families, widths and image sizes, as only the similarities between images are compared (Kornblith et al.,
    arXiv:1905.00414; estimated without bias over batches as in Nguyen et al., arXiv:2010.15327).

    Example::

        explain_cka('runs/photos/epoch_20.pth', 'photos/', other='runs/photos/epoch_5.pth').picture

    Args:
        source: Run, exported folder, checkpoint or weights, see :func:`load_encoder`; or a feature extractor.
        images: A folder, files, arrays or pictures of Pillow; four or more.
        other: The other encoder; the layers of the first among themselves if None.
        most: Images that are used, evenly chosen if there are more.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        other_encoder: The same of the other source.
        size: Pixels of the images, or height and width; for each encoder as in its training if None.
        device: Device; a GPU if there is one.

    Returns:
        The explanation. Its numbers: ``cka``, a row for each of ``layers`` and a column for each of ``other_layers``;
        None where a layer is the same for all images.

    Raises:
        UserError: If there are fewer than four images that can be read, all of them are the same to every layer, or a
            source does not fit.
    """
    items, names, note = choose_images(images, most)
    if len(items) < FEWEST:
        raise UserError(
            f'CKA compares the similarities between images: {len(items)} are too few, take {FEWEST} or more.'
        )
    first = open_extractor(source, encoder, size, device)
    second = first if other is None else open_extractor(other, other_encoder, size, device)
    values, count = compare_layers(first.encoder, second.encoder, _read_both(first, second, items, names))
    layers, other_layers = name_layers(first.encoder), name_layers(second.encoder)
    called = _name(source, first), _name(source if other is None else other, second)
    if called[0] == called[1] and second is not first:
        called = f'{called[0]} (first)', f'{called[1]} (other)'
    title = f'Similarity of layers over {count} images'
    caption = (
        'Linear CKA of each pair of layers: 1 where images are similar to each other in the same way, up to a rotation '
        'and a factor, 0 where the similarities have nothing in common.'
    )
    known = ~np.isnan(values)
    if not known.any():
        raise UserError(f'All {count} images are the same to every layer: there are no similarities to compare.')
    flat = [name for name, row in zip(layers, known, strict=True) if not row.any()]
    flat += [
        name for name, column in zip(other_layers, known.T, strict=True) if second is not first and not column.any()
    ]
    if flat:
        caption += f' Gray: to {format_count(len(flat), "layer")} all images are the same ({some(flat)}).'
    numbers = {
        'cka': [[round(v, 4) if v == v else None for v in row] for row in values.tolist()],
        'layers': layers,
        'other_layers': other_layers,
        'names': list(called),
        'images': count,
    }
    picture = draw_cka(values, layers, other_layers, called, title)
    return Explanation(title, picture, caption + note, numbers, first.skipped | second.skipped)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument(
        '--other', metavar='SOURCE', help='the other encoder; the layers of the first among themselves by default'
    )
    parser.add_argument('--other-arch', dest='other_encoder', help='architecture of timm, if its weights do not say it')
    add_most(parser, MOST)
    add_encoder_arguments(parser)


def _read_both(
    first: FeatureExtractor, second: FeatureExtractor, items: Sequence[Any], names: Sequence[str]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Read images as either encoder takes them, in batches of about one size that both could read."""
    count = -(-len(items) // BATCH)
    batch = max(FEWEST, -(-len(items) // count))
    readers = [copy.copy(extractor) for extractor in (first, second)]
    for reader in readers:
        reader.batch_size = batch
    if second is first:
        for one in readers[0].read_images(items, names):
            yield one, one
    else:
        shown = True, False  # one bar for both
        pairs = zip(*(r.read_batches(items, names, bar) for r, bar in zip(readers, shown, strict=True)), strict=False)
        for one, two in pairs:
            both = sorted({*one.indices} & {*two.indices})
            yield (
                one.imgs[[one.indices.index(i) for i in both]],
                two.imgs[[two.indices.index(i) for i in both]],
            )
    for extractor, reader in ((second, readers[1]), (first, readers[0])):  # if they are one, the first has read
        extractor.skipped = reader.skipped


def _name(source: EncoderSource, extractor: FeatureExtractor) -> str:
    """Name a network: the end of its source, or its class."""
    if isinstance(source, FeatureExtractor):
        known = extractor.notes.get('source')
        return type(extractor.encoder).__name__ if known is None else Path(known).name
    name = printable('/'.join(Path(source).parts[-2:]))  # checkpoints of several runs may have one name
    name = name if len(name) <= LONGEST else printable(Path(source).name)
    return name if len(name) <= LONGEST else f'…{name[-LONGEST:]}'
