"""Find images that are there twice within a set, or that leak from a training set into a test set."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mae_toolkit.apis.collections import Collection, check_outside, collect_images
from mae_toolkit.datasets.image_io import decode_image, open_image
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.files import quote_cell
from mae_toolkit.evaluation.embeddings.reading import Images, list_items
from mae_toolkit.evaluation.retrieval import Duplicate, search_duplicates
from mae_toolkit.evaluation.retrieval.duplicates import NEIGHBORS, group_pairs
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output_folder, is_own_picture, write_picture
from mae_toolkit.printing import format_count
from mae_toolkit.visualization.retrieval import Cell, draw_sheet, outline, to_picture

TOOL = 'duplicates'
RECORD, TABLE, PICTURE = 'duplicates.json', 'duplicates.csv', 'duplicates.png'
COLUMNS = ('group', 'image', 'other', 'kind', 'cosine', 'correlation', 'share')
DRAWN = 40  # pairs in the picture
LEAST_SIDE = 448  # pixels to which a JPEG may be reduced for the picture


def find_duplicates(
    source: str | Path | None,
    images: Images,
    test: Images | None = None,
    out: str | Path | None = None,
    *,
    features: str | Path | None = None,
    vectors: str | None = None,
    neighbors: int = NEIGHBORS,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | tuple[int, int] | None = None,
    batch_size: int = 32,
    device: str | None = None,
    force: bool = False,
) -> list[dict[str, Any]]:
    """Find images that are there twice, also in another size or encoding, turned, or cut out.

    Example::

        leaks = find_duplicates('runs/photos', 'train/', 'test/', 'leaks')
        {pair['other'] for pair in leaks}  # images to remove from the test set

    Images with similar hashes or vectors are candidates. A pair is reported if points in both agree on one place of
    one image in the other, and the pixels there are correlated; of images with too few points, if their hashes and
    thumbnails agree.

    Args:
        source: The encoder, see :func:`load_encoder`; if None, the file of features is enough.
        images: The set: a folder, a file, a pattern, or several of them.
        test: Another set: pairs of one image of each set are found, and none within a set.
        out: Folder for ``duplicates.csv``, ``duplicates.json`` and ``duplicates.png``.
        features: File of :func:`embed` with the vectors of the images, of both sets in this order where there are two.
        vectors: Level and pooling, such as ``'level4.mean'``; the mean of the coarsest level if None.
        neighbors: Images with the most similar vectors, with which each image is compared.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images; as in the training if None.
        batch_size: Images per batch.
        device: Device; a GPU if there is one.
        force: Replace files that this function did not write.

    Returns:
        Pairs with ``group`` (pairs that are connected have one number), ``image``, ``other``, ``kind`` (``'same'``, or
        ``'overlap'`` where one shows a part of the other or both share a part), ``cosine``, ``correlation`` of the
        pixels that both show, and ``share`` of the smaller image that both show.

    Raises:
        UserError: If an image is in both sets, or see :func:`embed`.
    """
    if out is not None:
        for given in (images, test):
            check_outside(out, () if given is None else given)
        check_output_folder(out, (RECORD, TABLE, PICTURE), force, _is_own)
    given, split = _list_sets(images, test)
    options: dict[str, Any] = dict(encoder=encoder, size=size, batch_size=batch_size, device=device)
    found = collect_images(given, source, features, vectors, **options)
    if split is not None:
        first = set(list_items(images)[0])
        split = sum(path in first for path in found.paths)
        if split in (0, len(found)):
            raise UserError(f'None of the images of the {"second" if split else "first"} set can be read.')
    pairs = search_duplicates(found.paths, found.vectors, split, neighbors)
    groups = group_pairs([(pair.first, pair.second) for pair in pairs])
    order = sorted(range(len(pairs)), key=lambda row: (groups[row], row))
    pairs = [pairs[row] for row in order]
    rows = [_describe(found, pair, groups[row]) for row, pair in zip(order, pairs, strict=True)]
    if out is not None:
        _write(Path(out), found, pairs, rows, split)
    return rows


def _list_sets(images: Images, test: Images | None) -> tuple[Any, int | None]:
    """Return what is to be encoded, and the number of images of the first set where there are two."""
    if test is None:
        return images, None
    (first, _), (second, _) = list_items(images), list_items(test)
    if not all(isinstance(item, Path) for item in (*first, *second)):
        raise UserError('The images must be files: name a folder, a file or a pattern.')
    known = {path.resolve() for path in first}
    shared = [path for path in second if path.resolve() in known]
    if shared:
        raise UserError(
            f'{format_count(len(shared), "image")} of the second set, such as {shared[0]}, '
            f'{"is" if len(shared) == 1 else "are"} in the first one, too: name two sets of different files.'
        )
    return [*first, *second], len(first)


def _describe(found: Collection, pair: Duplicate, group: int) -> dict[str, Any]:
    """Return plain values of a pair."""
    place = pair.alignment
    return {
        'group': group,
        'image': found.names[pair.first],
        'other': found.names[pair.second],
        'kind': pair.kind,
        'cosine': round(pair.cosine, 6),
        'correlation': None if place is None else round(place.correlation, 4),
        'share': None if place is None else round(place.share, 4),
    }


def _write(
    out: Path, found: Collection, pairs: Sequence[Duplicate], rows: list[dict[str, Any]], split: int | None
) -> None:
    """Write the list as CSV and JSON, and the picture; that of an earlier search is removed if there are no pairs."""
    out.mkdir(parents=True, exist_ok=True)
    record = {'written_by': TOOL, 'vectors': found.kind, **found.about, 'images': len(found), 'first_set': split}
    corners = [None if pair.alignment is None else pair.alignment.corners.round(4).tolist() for pair in pairs]
    record['pairs'] = [row | {'corners': places} for row, places in zip(rows, corners, strict=True)]
    record['skipped'] = dict(found.skipped)
    atomic_write(out / RECORD, json.dumps(record, indent=1) + '\n')
    lines = [','.join('' if row[key] is None else quote_cell(str(row[key])) for key in COLUMNS) for row in rows]
    atomic_write(out / TABLE, '\n'.join([','.join(COLUMNS), *lines, '']).encode('utf-8', 'surrogateescape'))
    if not rows:
        (out / PICTURE).unlink(missing_ok=True)
        return
    title = f'{format_count(len(rows), "pair")} of {format_count(len(found), "image")} show the same'
    title += f'; the first {DRAWN} are drawn' if len(rows) > DRAWN else ''
    cells = [_draw_pair(found, pair, row) for pair, row in zip(pairs[:DRAWN], rows[:DRAWN], strict=True)]
    write_picture(out / PICTURE, draw_sheet(cells, title), TOOL)


def _draw_pair(found: Collection, pair: Duplicate, row: Mapping[str, Any]) -> list[Cell]:
    """Draw both images, each with the outline of the other."""
    paths = found.paths[pair.first], found.paths[pair.second]
    first, second = (to_picture(decode_image(open_image(path), (LEAST_SIDE, LEAST_SIDE))) for path in paths)
    about = f'{row["kind"]}, cosine {pair.cosine:.3f}'
    if pair.alignment is not None:
        about += f', correlation {pair.alignment.correlation:.3f}'
        first, second = outline(first, pair.alignment.corners), outline(second, pair.alignment.inverse())
    return [
        Cell(first, [found.names[pair.first], f'group {row["group"]}']),
        Cell(second, [found.names[pair.second], about]),
    ]


def _is_own(path: Path) -> bool:
    """Return whether an earlier search wrote a file."""
    if path.name == PICTURE:
        return is_own_picture(path, TOOL)
    if path.name == TABLE:
        rows = csv.reader(io.StringIO(path.read_text(errors='replace')))
        return tuple(next(rows, ())) == COLUMNS
    return f'"written_by": "{TOOL}"' in path.read_text(errors='replace')[:200]
