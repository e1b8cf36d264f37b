"""Listing of images: in a folder tree, a list, or the layouts of COCO and ImageNet. Labels are not read."""

from __future__ import annotations

import glob
import io
import json
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from mmengine.logging import print_log

from mae_toolkit.datasets.image_io import SUFFIXES
from mae_toolkit.datasets.text_files import read_text_file
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count

LAYOUTS = ('folder', 'list', 'coco', 'imagenet')


def list_images(
    data_root: str | Path,
    ann_file: str | Path | None = None,
    layout: str | None = None,
    split: str | Path | None = None,
) -> list[str]:
    """List the images of a dataset in a fixed order, as paths relative to ``data_root``.

    For example, ``list_images('imagenet', split='val')`` lists the images below ``imagenet/val``.

    Args:
        data_root: Folder of the images.
        ann_file: For ``'list'``, a text file with one path per line; for ``'coco'``, an annotation file. Relative to
            ``data_root``, or absolute. The paths in a list are relative to ``data_root``.
        layout: ``'folder'``, ``'list'``, ``'coco'`` or ``'imagenet'``. By default, ``'coco'`` for a JSON file,
            ``'list'`` for another file, and ``'folder'`` without one.
        split: Folder of the images within ``data_root``, such as ``train`` or ``train2017``.

    Raises:
        UserError: If a file or folder is missing, or there are no images.
    """
    for name, value in (('data_root', data_root), ('ann_file', ann_file), ('split', split)):
        if not isinstance(value, str | Path) and (value is not None or name == 'data_root'):
            raise UserError(f'{name}={value!r} is not a path: write it as a string.')
    root = Path(data_root)
    if not os.path.isdir(root):
        raise UserError(f'There is no folder {root}: set data_root to the folder that holds the images.')
    layout = layout or infer_layout(ann_file)
    if layout not in LAYOUTS:
        raise UserError(f'layout={layout!r} must be one of {", ".join(LAYOUTS)}.')
    if layout in ('list', 'coco'):
        if ann_file is None:
            raise UserError(f'layout={layout!r} needs ann_file, the file that names the images.')
        if split and layout == 'list':
            raise UserError(
                f'split={split!r} does not apply to a list: its paths are relative to {root}; set split=None.'
            )
        path = root / ann_file
        if not path.is_file():
            raise UserError(f'There is no file {path}, which should name the images.')
        names = _list_coco_images(path, split) if layout == 'coco' else read_image_list(path, root)
    else:
        if ann_file is not None:
            raise UserError(
                f"layout={layout!r} does not read ann_file={ann_file!r}: set layout='list' or 'coco', or ann_file=None."
            )
        if not (root / (split or '')).is_dir():
            raise UserError(f'There is no folder {root / (split or "")}; split={split!r} is a folder within data_root.')
        names = _list_folder(root, split)
    if not names:
        where = root / (ann_file or split or '')
        raise UserError(f'{where} has no images; files that end with {", ".join(SUFFIXES)} are read.')
    return names


def find_images(paths: Iterable[str | Path]) -> list[Path]:
    """Find all images among files, folders and patterns such as ``photos/**/*.jpg``, each once and in the given order.

    Args:
        paths: Files, whatever their suffix; folders; or patterns.

    Raises:
        UserError: If a path or pattern matches nothing, or a folder has no images.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if os.path.isdir(path):
            found += [path / name for name in list_images(path)]
            continue
        matches = [path] if os.path.lexists(path) else _expand_pattern(path)  # a link to nothing is skipped later
        matches = [match for match in matches if not os.path.isdir(match)]
        if not matches:
            raise UserError(f'There is no image or folder {path}.')
        found += matches
    return list(dict.fromkeys(found))


def _expand_pattern(pattern: Path) -> list[Path]:
    """List the files and folders that match a pattern, sorted.

    ``**`` follows a link into its own parents up to 40 times; of such paths to the same file, the shortest is kept.
    """
    shortest: dict[tuple[str, str], Path] = {}
    for path in map(Path, glob.glob(str(pattern), recursive=True)):
        key = os.path.realpath(path.parent), path.name
        if key not in shortest or len(path.parts) < len(shortest[key].parts):
            shortest[key] = path
    return sorted(shortest.values())


def contains_images(folder: str | Path) -> bool:
    """Return whether there is an image anywhere below a folder."""
    return any(names for _, names in _walk(folder))


def infer_layout(ann_file: str | Path | None) -> str:
    """Return the layout of an annotation file by its name: COCO for JSON, else a list; ``'folder'`` without a file."""
    if ann_file is None:
        return 'folder'
    return 'coco' if str(ann_file).lower().endswith('.json') else 'list'


def _list_folder(root: Path, split: str | Path | None) -> list[str]:
    """List all images below a folder, sorted; links are followed, and hidden files and folders are left out."""
    names: list[str] = []
    for folder, found in _walk(root / (split or '')):
        prefix = os.path.relpath(folder, root)  # once per folder: it is slow
        names += found if prefix == os.curdir else (os.path.join(prefix, name) for name in found)
    return sorted(names)


def _walk(root: str | Path) -> Iterator[tuple[str, list[str]]]:
    """Yield the folders below one, itself included, each with the names of its images."""
    seen: set[str] = set()
    unreadable: list[OSError] = []
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=unreadable.append):
        real = os.path.realpath(folder)
        if real in seen:  # a link into its own parents
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        yield str(folder), [name for name in files if not name.startswith('.') and name.lower().endswith(SUFFIXES)]
    _warn_of_unreadable(root, unreadable)


def _warn_of_unreadable(root: str | Path, errors: list[OSError]) -> None:
    """Warn of folders whose images are not seen; lost+found, which belongs to every disk, holds none."""
    errors = [error for error in errors if os.path.basename(error.filename) != 'lost+found']
    if errors:
        names = ', '.join(f'{error.filename}: {error.strerror}' for error in errors[:3])
        print_log(
            f'{format_count(len(errors), "folder")} below {root} cannot be read, so the images there are left out '
            f'({names}{", …" if len(errors) > 3 else ""}): make them readable.',
            'current',
            30,
        )


def read_image_list(path: str | Path, root: str | Path) -> list[str]:
    """Read the lines of a list of images, without blank lines, comments, and blanks at the ends of a line.

    A line that begins with ``#`` is a comment, unless there is a file of that name. The encoding may be UTF-8, or
    UTF-16 or UTF-32 with a byte order mark; file names that are not UTF-8 are kept as they are.

    Args:
        path: The list.
        root: Folder that the paths in the list are relative to.

    Raises:
        UserError: If it is not text.
    """
    lines = [line.strip() for line in io.StringIO(read_text_file(path), newline=None)]
    return [line for line in lines if line and not _is_comment(line, root)]


def _is_comment(line: str, root: str | Path) -> bool:
    """Return whether a line names no file; the list of a labeled dataset has a class behind the name."""
    if not line.startswith('#'):
        return False
    names = {line, line.rsplit(maxsplit=1)[0]}
    return not any(os.path.isfile(os.path.join(root, name)) for name in names)


def _list_coco_images(path: Path, split: str | Path | None) -> list[str]:
    try:
        images = json.loads(path.read_bytes())['images']
        names = [os.path.join(split or '', image['file_name']) for image in images]
        for name in names:
            os.fsencode(name)  # JSON can hold halves of characters, of which no file name consists
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f'the key {error} is missing' if isinstance(error, KeyError) else error
        raise UserError(f'{path} is not a COCO annotation file: it needs images[].file_name ({reason}).') from None
    return names
