"""Which images there are: in a folder tree, a list, or the layouts of COCO and ImageNet. Labels are not read."""

import glob
import json
import os
from pathlib import Path

from mae_toolkit.datasets.image_io import SUFFIXES
from mae_toolkit.errors import UserError

LAYOUTS = ('folder', 'list', 'coco', 'imagenet')


def list_images(data_root, ann_file=None, layout=None, split=None):
    """Names of images relative to ``data_root``, in a fixed order.

    Args:
        data_root (str | Path): The folder.
        ann_file (str | None): For ``'list'`` a text file with one path per line; for ``'coco'`` an annotation file.
            Relative to ``data_root``, or absolute. A list's paths are relative to ``data_root``.
        layout (str | None): One of ``LAYOUTS``. By default ``'coco'`` for a JSON file, ``'list'`` for another file,
            else ``'folder'``.
        split (str | None): Folder of the images within ``data_root`` (``train``, ``train2017``).

    Raises:
        UserError: If something is missing, or there is no image.
    """
    root = Path(data_root)
    if not root.is_dir():
        raise UserError(f'There is no folder {root}: set data_root to the folder that holds the images.')
    layout = layout or _layout_of(ann_file)
    if layout not in LAYOUTS:
        raise UserError(f'layout={layout!r} is none of {", ".join(LAYOUTS)}.')
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
        names = _from_coco(path, split) if layout == 'coco' else _from_list(path)
    else:
        if ann_file is not None:
            raise UserError(
                f"layout={layout!r} does not read ann_file={ann_file!r}: set layout='list' or 'coco', or ann_file=None."
            )
        if not (root / (split or '')).is_dir():
            raise UserError(f'There is no folder {root / split}; split={split!r} is a folder within data_root.')
        names = _from_folder(root, split)
    if not names:
        where = root / (ann_file or split or '')
        raise UserError(f'{where} has no images; the suffixes {", ".join(SUFFIXES)} are read.')
    return names


def find_images(paths):
    """All images among files, folders and patterns such as ``photos/**/*.jpg``, each once, in the order given.

    Args:
        paths (list[str | Path]): A file is taken whatever its suffix.

    Raises:
        UserError: If there is nothing under one of them, or a folder has no images.
    """
    found = []
    for path in map(Path, paths):
        if path.is_dir():
            found += [path / name for name in list_images(path)]
            continue
        matches = [path] if path.exists() else sorted(map(Path, glob.glob(str(path), recursive=True)))
        matches = [match for match in matches if not match.is_dir()]
        if not matches:
            raise UserError(f'There is no image or folder {path}.')
        found += matches
    return list(dict.fromkeys(found))


def has_images(folder):
    """Whether there is an image anywhere below a folder."""
    return any(found for _, found in _walk(folder))


def _layout_of(ann_file):
    if ann_file is None:
        return 'folder'
    return 'coco' if str(ann_file).lower().endswith('.json') else 'list'


def _from_folder(root, split):
    """All images below a folder, sorted; links are followed, hidden files and folders left out."""
    names = []
    for folder, found in _walk(root / (split or '')):
        prefix = os.path.relpath(folder, root)  # once per folder: it is slow
        names += found if prefix == os.curdir else (os.path.join(prefix, name) for name in found)
    return sorted(names)


def _walk(root):
    """Folders below one, itself included, each with the names of its images."""
    seen = set()
    for folder, subfolders, files in os.walk(root, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link into its own parents
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        yield folder, [name for name in files if not name.startswith('.') and name.lower().endswith(SUFFIXES)]


def _from_list(path):
    lines = (line.strip() for line in path.read_text(encoding='utf-8-sig', errors='surrogateescape').splitlines())
    return [line for line in lines if line and not line.startswith('#')]


def _from_coco(path, split):
    try:
        images = json.loads(path.read_bytes())['images']
        return [os.path.join(split or '', image['file_name']) for image in images]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f'{path} is no COCO annotation file: it needs images[].file_name ({error}).') from None
