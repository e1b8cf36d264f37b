"""Group the images of a folder by their vectors: a CSV, a contact sheet for each group, and folders of links."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_toolkit.apis.collections import Collection, check_outside, collect_images
from mae_toolkit.datasets.image_io import decode_image, open_image
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.files import quote_cell
from mae_toolkit.evaluation.embeddings.reading import Images
from mae_toolkit.evaluation.retrieval import Clusters, cluster_vectors
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import is_own_picture, make_file_name, write_picture
from mae_toolkit.printing import format_count, printable
from mae_toolkit.visualization.retrieval import Cell, draw_sheet, to_picture

TOOL = 'cluster'
RECORD, TABLE, MARK = 'clusters.json', 'clusters.csv', 'mae_toolkit cluster'
DRAWN, COLUMNS, SIDE = 40, 8, 128  # images of a contact sheet, side by side, and their pixels


def cluster_images(
    source: str | Path | None,
    images: Images,
    clusters: int | None = None,
    out: str | Path | None = None,
    *,
    links: bool = False,
    features: str | Path | None = None,
    vectors: str | None = None,
    seed: int = 0,
    encoder: str | Mapping[str, Any] | None = None,
    size: int | tuple[int, int] | None = None,
    batch_size: int = 32,
    device: str | None = None,
) -> dict[str, int]:
    """Group images by k-means on their vectors, each scaled to length 1.

    Example::

        groups = cluster_images('runs/photos', 'photos/', 5, 'groups')
        groups['a.jpg']  # 0 for the largest of the five

    Args:
        source: The encoder, see :func:`load_encoder`; if None, the file of features is enough.
        images: A folder, a file, a pattern, or several of them.
        clusters: How many; if None, the number from 2 to 20 with the highest mean silhouette.
        out: Folder for ``clusters.csv``, ``clusters.json`` and a contact sheet ``cluster_00.png`` for each cluster, the
            largest first. What an earlier call wrote there is replaced.
        links: Make a folder ``cluster_00`` of links to the images for each cluster, too.
        features: File of :func:`embed` with the vectors of the images.
        vectors: Level and pooling, such as ``'level4.mean'``; the mean of the coarsest level if None.
        seed: Seed of k-means.
        encoder: Where the source does not say it: the architecture in timm, or a config.
        size: Pixels of the images; as in the training if None.
        batch_size: Images per batch.
        device: Device; a GPU if there is one.

    Returns:
        The cluster of each image by its name.

    Raises:
        UserError: If there are fewer different images than clusters, the folder holds files of others, or see
            :func:`embed`.
    """
    if clusters is not None and clusters < 1:
        raise UserError(f'clusters={clusters} must be 1 or more, or None to choose it.')
    if out is not None:
        check_outside(out, images)
        _check_folder(Path(out))
    options: dict[str, Any] = dict(encoder=encoder, size=size, batch_size=batch_size, device=device)
    found = collect_images(images, source, features, vectors, **options)
    made = cluster_vectors(found.vectors, clusters, seed)
    if out is not None:
        _write(Path(out), found, made, seed, links)
    return dict(zip(found.names, made.labels.tolist(), strict=True))


def _check_folder(out: Path) -> None:
    """Refuse a folder that holds anything, unless an earlier call made it."""
    if os.path.lexists(out) and not out.is_dir():
        raise UserError(f'{printable(out)} is a file: name a folder.')
    if out.is_dir() and any(out.iterdir()) and _read_record(out) is None:
        raise UserError(
            f'{printable(out)} is not empty, and no earlier clusters are in it: name another folder, or empty it.'
        )


def _read_record(out: Path) -> dict[str, Any] | None:
    """Read the record of an earlier call; None if there is none."""
    try:
        record = json.loads((out / RECORD).read_text())
        return record if record['written_by'] == MARK else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _remove_earlier(out: Path) -> None:
    """Remove the sheets and links of an earlier call; what else lies there stays."""
    record = _read_record(out)
    for cluster in range(len(record['clusters']) if record else 0):
        sheet, folder = out / f'cluster_{cluster:02d}.png', out / f'cluster_{cluster:02d}'
        if is_own_picture(sheet, TOOL):
            sheet.unlink()
        if folder.is_dir() and not folder.is_symlink():
            for path in folder.iterdir():
                if path.is_symlink():
                    path.unlink()
            if not any(folder.iterdir()):
                folder.rmdir()


def _write(out: Path, found: Collection, made: Clusters, seed: int, links: bool) -> None:
    """Write the table, a contact sheet per cluster, links, and the record."""
    _remove_earlier(out)
    out.mkdir(parents=True, exist_ok=True)
    members = [made.members(cluster) for cluster in range(made.count)]
    record = {
        'written_by': MARK,
        'vectors': found.kind,
        **found.about,
        'seed': seed,
        'silhouette': round(made.silhouette, 6),
        'tried': {count: round(value, 6) for count, value in made.tried.items()},
        'clusters': [{'images': len(rows), 'first': found.names[rows[0]]} for rows in members],
        'skipped': dict(found.skipped),
    }
    atomic_write(out / RECORD, json.dumps(record, indent=1) + '\n')  # first, as it lists what the next call may remove
    lines = [
        f'{quote_cell(name)},{label},{cosine:.6f}'
        for name, label, cosine in zip(found.names, made.labels, made.cosines, strict=True)
    ]
    atomic_write(out / TABLE, '\n'.join(['image,cluster,cosine', *lines, '']).encode('utf-8', 'surrogateescape'))
    for cluster, rows in enumerate(members):
        _draw(out / f'cluster_{cluster:02d}.png', found, cluster, rows.tolist(), made)
        if links:
            _link(out / f'cluster_{cluster:02d}', found, rows.tolist())


def _draw(path: Path, found: Collection, cluster: int, rows: list[int], made: Clusters) -> None:
    """Draw the contact sheet of a cluster."""
    title = f'cluster {cluster}: {format_count(len(rows), "image")}'
    title += f', the {DRAWN} nearest to its center' if len(rows) > DRAWN else ', the nearest to its center first'
    cells = []
    for row in rows[:DRAWN]:
        picture = to_picture(decode_image(open_image(found.paths[row]), (SIDE, SIDE)))
        cells.append(Cell(picture, [found.names[row], f'{made.cosines[row]:.3f}']))
    sheet = draw_sheet([cells[i : i + COLUMNS] for i in range(0, len(cells), COLUMNS)], title, SIDE)
    write_picture(path, sheet, TOOL)


def _link(folder: Path, found: Collection, rows: list[int]) -> None:
    """Fill a folder with links to images, whose names begin with their rank."""
    folder.mkdir(exist_ok=True)
    for rank, row in enumerate(rows):
        path = found.paths[row]
        link = folder / f'{rank:05d}_{make_file_name(path.stem)}{path.suffix}'
        parent = os.path.relpath(os.path.realpath(path.parent), os.path.realpath(folder))
        link.symlink_to(os.path.join(parent, path.name))
