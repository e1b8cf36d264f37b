"""Find the images that are most similar to one, and the regions that make them so."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from mae_toolkit.apis.collections import Collection, check_outside, collect_images
from mae_toolkit.apis.feature_pictures import to_shown
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import FeatureExtractor
from mae_toolkit.evaluation.embeddings.extractor import EncodedBatch
from mae_toolkit.evaluation.embeddings.pooling import pool_features
from mae_toolkit.evaluation.embeddings.reading import Images, list_items
from mae_toolkit.evaluation.retrieval import compare_patches, find_neighbors
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output, is_own_picture, write_picture
from mae_toolkit.printing import format_count
from mae_toolkit.visualization.retrieval import Cell, draw_sheet, overlay_heat

TOOL = 'similar'
COUNT = 8


@dataclass(frozen=True, eq=False)
class Match:
    """An image that is similar to another.

    Attributes:
        name: What it is called.
        path: Its file.
        cosine: Of the vectors of both images.
        query_regions: (h, w), for each patch of the image that was asked for, the cosine to the most similar patch of
            this one.
        regions: (i, j), for each patch of this image, the cosine to the most similar patch of the other.
    """

    name: str
    path: Path
    cosine: float
    query_regions: np.ndarray
    regions: np.ndarray

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        maps = {'query_regions': self.query_regions, 'regions': self.regions}
        plain = {name: np.round(values.astype(float), 4).tolist() for name, values in maps.items()}
        return {'image': self.name, 'path': str(self.path), 'cosine': round(self.cosine, 6)} | plain


def find_similar(
    source: str | Path | None,
    images: Images,
    image: str | Path,
    out: str | Path | None = None,
    *,
    count: int | None = None,
    features: str | Path | None = None,
    vectors: str | None = None,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | tuple[int, int] | None = None,
    batch_size: int = 32,
    device: str | None = None,
    force: bool = False,
) -> list[Match]:
    """Find the images that are most similar to one, and the regions that make them so.

    Example::

        for match in find_similar('runs/photos', 'photos/', 'photos/1.jpg', 'sheet.png'):
            match.name, match.cosine, match.regions  # (h, w) of its patches

    Args:
        source: The encoder, see :func:`load_encoder`; that of the file of features if None.
        images: A folder, a file, a pattern, or several of them.
        image: The image; where it is one of the others, it is not found itself.
        out: Picture ``.png`` that shows the matches with their regions; a JSON file of the same name lies beside it.
        count: How many are wanted; 8, or as many as there are, if None.
        features: File of :func:`embed` with the vectors of the images.
        vectors: Level and pooling, such as ``'level4.mean'``; the mean of the coarsest level if None. The regions are
            those of this level.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images; as in the training if None.
        batch_size: Images per batch.
        device: Device; a GPU if there is one.
        force: Replace files that this function did not write.

    Returns:
        The matches, the most similar first.

    Raises:
        UserError: If the image cannot be read, there are fewer others than ``count``, or see :func:`embed`.
    """
    _check_one(image)
    if out is not None:
        check_outside(out, images)
        _check_out(Path(out), image, force)
    options: dict[str, Any] = dict(encoder=encoder, size=size, batch_size=batch_size, device=device)
    found = collect_images(images, source, features, vectors, **options, needs_encoder=True)
    extractor = found.extractor
    assert extractor is not None
    query = _encode(extractor, image)
    rows = [row for row, path in enumerate(found.paths) if not _is_same(path, image)]
    if len(rows) < (count or 1):
        raise UserError(
            f'There {"is" if len(rows) == 1 else "are"} {format_count(len(rows), "other image")}, and {count or 1} '
            'should be found: ask for fewer, or give more images.'
        )
    found_matches = match_images(found, query, rows, count or COUNT)
    matches, shown = [match for match, _ in found_matches], [picture for _, picture in found_matches]
    if out is not None:
        _write(Path(out), image, found, matches, to_shown(extractor, query.imgs[0]), shown)
    return matches


def match_images(
    found: Collection, query: EncodedBatch, rows: Sequence[int], count: int = COUNT
) -> list[tuple[Match, np.ndarray]]:
    """Find the images of a collection that are most similar to one, and the regions that make them so.

    Args:
        found: The collection, with its encoder.
        query: The image, encoded.
        rows: Rows of the collection among which is searched.
        count: How many are wanted.

    Returns:
        The matches, the most similar first, each with its picture (H, W, 3) uint8 as the encoder sees it.

    Raises:
        UserError: If a match can no longer be read.
    """
    extractor = found.extractor
    assert extractor is not None
    vector = pool_features(query.features, extractor.poolings, None, extractor.encoder.has_class_token)[found.kind]
    nearest, cosines = find_neighbors(found.vectors[list(rows)], count, vector.cpu().numpy())
    level = int(found.kind.split('.')[0].removeprefix('level')) - 1
    matches = []
    for near, cosine in zip(nearest[0], cosines[0], strict=True):
        row = rows[near]
        batch = _encode(extractor, found.paths[row])
        regions = compare_patches(query.features.maps[level][0], batch.features.maps[level][0])
        match = Match(found.names[row], found.paths[row], float(cosine), *regions)
        matches.append((match, to_shown(extractor, batch.imgs[0])))
    return matches


def _encode(extractor: FeatureExtractor, image: str | Path) -> EncodedBatch:
    """Encode one image, which must be readable."""
    batch = next(extractor.encode([Path(image)], show_progress=False), None)
    if batch is None:
        raise UserError(f'{image} cannot be read: {next(iter(extractor.skipped.values()))}.')
    return batch


def _check_one(image: str | Path) -> None:
    """Refuse a folder or a pattern of several images, of which only the first would be looked for."""
    items, _ = list_items(image)
    if len(items) > 1:
        raise UserError(f'{image} is {len(items)} images, and others are compared with one: name one of them.')


def _is_same(path: Path, other: str | Path) -> bool:
    try:
        return path.samefile(other)
    except OSError:
        return False


def _check_out(out: Path, image: str | Path, force: bool) -> None:
    if out.suffix.lower() != '.png':
        raise UserError(f'{out}: the sheet is a PNG, so that its name must end in .png.')
    check_output(out, force, [image], lambda path: is_own_picture(path, TOOL))
    check_output(out.with_suffix('.json'), force, [image], lambda path: is_own_picture(out, TOOL))


def _write(
    out: Path, image: str | Path, found: Collection, matches: list[Match], query: np.ndarray, shown: list[np.ndarray]
) -> None:
    """Write the sheet, and the JSON file beside it."""
    values = np.concatenate([part.ravel() for match in matches for part in (match.query_regions, match.regions)])
    low, high = float(values.min()), float(values.max())
    rows = []
    for number, (match, picture) in enumerate(zip(matches, shown, strict=True), 1):
        heats = overlay_heat(query, match.query_regions, low, high), overlay_heat(picture, match.regions, low, high)
        lines = [[str(image)], ['where it is like the match']]
        lines += [[f'{number}: cosine {match.cosine:.3f}', match.name], ['where it is like the image']]
        pictures = query, heats[0], picture, heats[1]
        rows.append([Cell(part, text) for part, text in zip(pictures, lines, strict=True)])
    title = f'{found.kind} of {found.about["encoder"]}\ncosine of each patch to the best of the other image: {low:.2f} '
    write_picture(out, draw_sheet(rows, f'{title}(blue) to {high:.2f} (yellow)'), TOOL)
    record = {'image': str(image), 'vectors': found.kind, **found.about, 'images': len(found)}
    record |= {'matches': [match.to_dict() for match in matches], 'skipped': dict(found.skipped)}
    atomic_write(out.with_suffix('.json'), json.dumps(record) + '\n')
