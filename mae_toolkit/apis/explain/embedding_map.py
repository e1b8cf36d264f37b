"""A map of the images of a folder by their vectors, colored by label or cluster."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mae_toolkit.apis.collections import collect_images
from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.sources import EncoderSource, add_encoder_arguments, open_extractor
from mae_toolkit.argument_types import positive_int, seed_number
from mae_toolkit.datasets.any_image import as_image_file
from mae_toolkit.datasets.image_io import decode_image
from mae_toolkit.datasets.labels.classes import read_classes
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import Embeddings
from mae_toolkit.evaluation.embeddings.files import is_embeddings
from mae_toolkit.evaluation.embeddings.reading import Images, list_items, refuse_none_read
from mae_toolkit.evaluation.explanation.embedding_map import (
    METHODS,
    EmbeddingMap,
    check_labels,
    check_umap,
    map_vectors,
    measure_label_accuracy,
    measure_map_accuracy,
    spread_points,
)
from mae_toolkit.evaluation.retrieval import cluster_vectors
from mae_toolkit.printing import format_count, printable
from mae_toolkit.randomness import check_seed
from mae_toolkit.visualization.explanation.embedding_map import draw_embedding_map
from mae_toolkit.visualization.retrieval import to_picture

COLORS = ('auto', 'label', 'cluster', 'none')
THUMBNAIL = 64  # pixels at which an image is decoded


@dataclass(frozen=True, eq=False)
class _Vectors:
    """Images and a vector of each."""

    items: list[Any]
    names: list[str]
    values: np.ndarray
    kind: str
    skipped: dict[str, str]


@dataclass(frozen=True, eq=False)
class _Groups:
    """The group of each image, whether a label or a cluster, and what the numbers say about them."""

    kind: str
    names: list[str] | None
    numbers: dict[str, Any]
    note: str = ''


def explain_map(
    source: EncoderSource | Embeddings,
    images: Images,
    *,
    method: str = 'tsne',
    color: str = 'auto',
    labels: str | Path | Sequence[str] | None = None,
    clusters: int | None = None,
    vectors: str | None = None,
    thumbnails: int = 0,
    neighbors: int | None = None,
    seed: int = 0,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | Sequence[int] | None = None,
    device: str | None = None,
) -> Explanation:
    """Put images on a map so that those with similar vectors are neighbors, colored by label or cluster.

    A map of two dimensions cannot keep all distances. t-SNE and UMAP keep neighbors: distances between groups, their
    sizes and their shapes mean little, and another seed gives another map. The numbers therefore say how far the map is
    to be trusted, and what the vectors themselves are worth.

    Example::

        explain_map('runs/photos', 'photos/', thumbnails=40)
        explain_map('features.npz', 'photos/', method='umap', color='cluster', clusters=5)

    Args:
        source: Run, exported folder, checkpoint or weights, see :func:`load_encoder`; a feature extractor; or the file
            of :func:`~mae_toolkit.apis.embed` that has the vectors of the images; or the vectors, one row per image.
        images: A folder, files, arrays or pictures of Pillow.
        method: ``'tsne'``, or ``'umap'``, which needs the extra ``explain``.
        color: ``'label'``, ``'cluster'`` (k-means), ``'none'``, or ``'auto'`` for labels where there are any, or else
            clusters.
        labels: One label for each image; or class folders or a CSV of files and classes, see
            :func:`~mae_toolkit.datasets.labels.classes.read_classes`. If None, the folder of images has class folders.
        clusters: How many; if None, the number from 2 to 20 with the highest mean silhouette.
        vectors: Level and pooling, such as ``'level4.mean'``; the mean of the coarsest level if None.
        thumbnails: So many images are shown on the map at most, as far as they do not hide each other.
        neighbors: Perplexity of t-SNE or ``n_neighbors`` of UMAP; see :func:`map_vectors`.
        seed: Seed of the map and of k-means.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images, or height and width; as in the training if None.
        device: Device; a GPU if there is one.

    Returns:
        The explanation. Its numbers: ``trustworthiness`` of the map, ``points`` by image, and for labels
        ``knn_accuracy`` in the vectors and on the map beside the ``largest_class``.

    Raises:
        UserError: If there are too few images or none can be read, they have no labels, UMAP is not installed, or an
            argument is out of its range.
    """
    check_seed(seed)
    if color not in COLORS:
        raise UserError(f'color={color!r} must be one of {", ".join(COLORS)}.')
    if labels is not None and color in ('cluster', 'none'):
        raise UserError(f'Labels are given, and color={color!r} does not show them: leave one out.')
    if thumbnails < 0:
        raise UserError(f'thumbnails={thumbnails} must be 0 or more.')
    if method == 'umap':
        check_umap()  # before images are encoded
    found = _make_vectors(source, images, vectors, encoder, size, device)
    if broken := [name for name, row in zip(found.names, found.values, strict=True) if not np.isfinite(row).all()]:
        raise UserError(
            f'The vectors of {len(broken)} of {format_count(len(found.names), "image")} are not finite, such as '
            f'that of {printable(broken[0])}: the weights are broken, or the image is far from the training.'
        )
    groups = _find_groups(found, images, color, labels, clusters, seed)
    made = map_vectors(found.values, method, seed, neighbors)
    if groups.kind == 'label' and groups.names is not None:
        groups.numbers['knn_accuracy'] = {
            'vectors': round(measure_label_accuracy(found.values, groups.names), 4),
            'map': round(measure_map_accuracy(made.points, groups.names), 4),
        }
    chosen = spread_points(made.points, thumbnails) if thumbnails else []
    pictures = {row: _show(found.items[row]) for row in chosen}
    named = METHODS[method]
    title = f'{named} of {format_count(len(found.names), "image")} by {found.kind} (seed {seed})'
    picture = draw_embedding_map(made.points, groups.names, title, named, pictures, groups.kind)
    numbers = {
        'method': method,
        **made.options,
        'vectors': found.kind,
        'images': len(found.names),
        'trustworthiness': round(made.trustworthiness, 4),
        'trustworthiness_neighbors': made.neighbors,
        'color': groups.kind,
        **groups.numbers,
        'points': _list_points(found, made, groups),
    }
    return Explanation(f'Map of {found.kind}', picture, _describe(made, groups), numbers, found.skipped)


def _make_vectors(
    source: EncoderSource | Embeddings,
    images: Images,
    kind: str | None,
    encoder: str | Mapping[str, Any] | None,
    size: int | Sequence[int] | None,
    device: str | None,
) -> _Vectors:
    """Make the vectors of images, or read them from a file of embeddings."""
    if isinstance(source, str | Path) and Path(source).is_file() and is_embeddings(Path(source)):
        if encoder is not None or size is not None:
            raise UserError(f'{source} has the vectors already: leave encoder and size out.')
        known = collect_images(images, features=source, vectors=kind)
        return _Vectors(list(known.paths), list(known.names), known.vectors, known.kind, dict(known.skipped))
    items, names = list_items(images)
    if isinstance(source, Embeddings):
        if len(source) != len(items):
            raise UserError(f'There are {len(source)} vectors for {len(items)} images: give one row for each.')
        if encoder is not None or size is not None:
            raise UserError('The vectors are made already: leave encoder and size out.')
        pairs = zip(source.names, items, strict=True)
        wrong = [(name, item) for name, item in pairs if isinstance(item, Path) and item.name != Path(name).name]
        if wrong:
            raise UserError(
                f'The vectors of {printable(wrong[0][0])} are in the place of the image {printable(wrong[0][1])}: give '
                'the images in the order of the vectors.'
            )
        return _Vectors(items, list(source.names), source.choose(kind), kind or source.default, {})
    extractor = open_extractor(source, encoder, size, device)
    made = extractor.embed(items, names)
    if not len(made):
        refuse_none_read(len(items), made.skipped)
    kept = [item for item, name in zip(items, names, strict=True) if name not in made.skipped]
    return _Vectors(kept, list(made.names), made.choose(kind), kind or made.default, dict(made.skipped))


def _find_groups(
    found: _Vectors,
    images: Images,
    color: str,
    labels: str | Path | Sequence[str] | None,
    clusters: int | None,
    seed: int,
) -> _Groups:
    """Find the group of each image."""
    if color == 'none':
        return _Groups('none', None, {})
    note = ''
    if color != 'cluster':
        try:
            names = _read_labels(found, images, labels)
        except UserError as error:
            if color == 'label' or labels is not None:
                raise
            note = f' There are no labels to color by ({str(error).rstrip(".")}).'
        else:
            if clusters is not None:
                raise UserError('The images have labels, and clusters are asked for: choose color cluster.')
            counts = [names.count(name) for name in set(names)]
            return _Groups(
                'label', names, {'classes': len(counts), 'largest_class': round(max(counts) / len(names), 4)}
            )
    try:
        made = cluster_vectors(found.values, clusters, seed)
    except UserError as error:
        if color == 'cluster' or clusters is not None:
            raise
        return _Groups('none', None, {}, f'{note} There are no clusters to color by ({str(error).rstrip(".")}).')
    names = [f'{label:02d}' if made.count > 10 else str(label) for label in made.labels]
    return _Groups('cluster', names, {'clusters': made.count, 'silhouette': round(made.silhouette, 4)}, note)


def _read_labels(found: _Vectors, images: Images, labels: str | Path | Sequence[str] | None) -> list[str]:
    """Read the label of each image.

    Raises:
        UserError: If there are none, or an image has none.
    """
    if labels is not None and not isinstance(labels, str | Path):
        if found.skipped:
            raise UserError(
                f'{format_count(len(found.skipped), "image")} could not be read, so that labels in a list do not fit: '
                'leave these images out.'
            )
        return check_labels(labels, len(found.names))
    folder = labels if labels is not None else images
    if not isinstance(folder, str | Path):
        raise UserError('labels are read from one folder of class folders, or from a CSV.')
    known = read_classes(Path(folder)).look_up(found.items)
    missing = [name for name, label in zip(found.names, known, strict=True) if label is None]
    if missing:
        raise UserError(
            f'{printable(folder)} has no label for {len(missing)} of {format_count(len(found.names), "image")}, such '
            f'as {printable(missing[0])}: leave them out, or give them one.'
        )
    return check_labels([label for label in known if label is not None], len(found.items))


def _show(item: Any) -> np.ndarray:
    return to_picture(decode_image(as_image_file(item), (THUMBNAIL, THUMBNAIL)))


def _list_points(found: _Vectors, made: EmbeddingMap, groups: _Groups) -> list[dict[str, Any]]:
    names: Sequence[str | None] = groups.names or [None] * len(found.names)
    rows = zip(found.names, made.points.tolist(), names, strict=True)
    return [
        {'image': printable(name), 'x': round(x, 4), 'y': round(y, 4)} | ({} if group is None else {groups.kind: group})
        for name, (x, y), group in rows
    ]


def _describe(made: EmbeddingMap, groups: _Groups) -> str:
    trust = f'trustworthiness {made.trustworthiness:.2f}, where 1 is perfect and a random map has about 0.5'
    text = (
        f'Images with similar vectors are neighbors ({trust}). Distances between groups, and their sizes, mean little.'
    )
    if groups.kind == 'label':
        accuracy, largest = groups.numbers['knn_accuracy'], groups.numbers['largest_class']
        text += (
            f' A vote of nearest neighbors gives {accuracy["vectors"]:.0%} of the images the right label among the '
            f'vectors, and {accuracy["map"]:.0%} on the map; {largest:.0%} have the most common label.'
        )
    elif groups.kind == 'cluster':
        text += (
            f' Colors are {groups.numbers["clusters"]} clusters by k-means of the vectors (mean silhouette '
            f'{groups.numbers["silhouette"]:.2f}), not of the map.'
        )
    return text + groups.note


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument('--method', choices=METHODS, default='tsne', help="umap needs the extra 'explain'")
    parser.add_argument('--color', choices=COLORS, default='auto', help='what decides the color of a point')
    parser.add_argument('--labels', metavar='PATH', help='class folders, or a CSV of files and classes')
    parser.add_argument('--clusters', type=positive_int, help='number of clusters; chosen by the silhouette by default')
    parser.add_argument('--vectors', help="level and pooling, such as 'level4.mean'")
    parser.add_argument('--thumbnails', type=int, default=0, help='images that are shown on the map')
    parser.add_argument('--neighbors', type=positive_int, help='perplexity of t-SNE, or n_neighbors of UMAP')
    parser.add_argument('--seed', type=seed_number, default=0, help='seed of the map and of k-means')
    add_encoder_arguments(parser)
