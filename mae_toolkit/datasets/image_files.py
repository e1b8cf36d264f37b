"""Which images there are: in a folder tree, a list, or the layouts of COCO and ImageNet. Labels are not read."""

import codecs
import glob
import io
import json
import os
from pathlib import Path

from mmengine.logging import print_log

from mae_toolkit.datasets.image_io import SUFFIXES
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count

LAYOUTS = ('folder', 'list', 'coco', 'imagenet')
# UTF-32 first: its little-endian mark begins with that of UTF-16.
MARKS = {
    codecs.BOM_UTF32_LE: 'utf-32',
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}


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
    for name, value in (('data_root', data_root), ('ann_file', ann_file), ('split', split)):
        if not isinstance(value, str | Path) and (value is not None or name == 'data_root'):
            raise UserError(f'{name}={value!r} is no path: write it as text.')
    root = Path(data_root)
    if not os.path.isdir(root):
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
        names = _from_coco(path, split) if layout == 'coco' else read_list(path, root)
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
        if os.path.isdir(path):
            found += [path / name for name in list_images(path)]
            continue
        matches = [path] if os.path.exists(path) else _match(path)
        matches = [match for match in matches if not os.path.isdir(match)]
        if not matches:
            raise UserError(f'There is no image or folder {path}.')
        found += matches
    return list(dict.fromkeys(found))


def _match(pattern):
    """Files and folders of a pattern, sorted; ``**`` follows a link into its own parents 40 times, which is undone."""
    kept = {}
    for path in map(Path, glob.glob(str(pattern), recursive=True)):
        key = os.path.realpath(path.parent), path.name
        if key not in kept or len(path.parts) < len(kept[key].parts):
            kept[key] = path
    return sorted(kept.values())


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
    seen, unreadable = set(), []
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=unreadable.append):
        real = os.path.realpath(folder)
        if real in seen:  # a link into its own parents
            subfolders.clear()
            continue
        seen.add(real)
        subfolders[:] = sorted(name for name in subfolders if not name.startswith('.'))
        yield folder, [name for name in files if not name.startswith('.') and name.lower().endswith(SUFFIXES)]
    _warn_of_unreadable(root, unreadable)


def _warn_of_unreadable(root, errors):
    """Name the folders whose images are not seen; lost+found, which belongs to every disk, holds none."""
    errors = [error for error in errors if os.path.basename(error.filename) != 'lost+found']
    if errors:
        names = ', '.join(f'{error.filename}: {error.strerror}' for error in errors[:3])
        print_log(
            f'{format_count(len(errors), "folder")} below {root} cannot be read, so that images there are left out '
            f'({names}{", …" if len(errors) > 3 else ""}): make them readable.',
            'current',
            30,
        )


def read_list(path, root):
    """Read the lines of a list of images, without blank lines, comments, and blanks at the ends of a line.

    A line that begins with ``#`` is a comment, unless there is a file of that name. The text is UTF-8, or UTF-16 or
    UTF-32 with a byte order mark; names of files that are no UTF-8 are kept as they are.

    Args:
        path (Path): The list.
        root (Path): Folder to which the names are relative.

    Raises:
        UserError: If it is no text.
    """
    lines = [line.strip() for line in io.StringIO(decode_text(path), newline=None)]
    return [line for line in lines if line and not _is_comment(line, root)]


def decode_text(path):
    """Decode a text file by its byte order mark, UTF-8 if it has none; other bytes become surrogates.

    Raises:
        UserError: If it is no text.
    """
    data = Path(path).read_bytes()
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), None)
    try:
        text = data.decode(encoding) if encoding else data.decode('utf-8-sig', 'surrogateescape')
    except UnicodeDecodeError as error:
        raise UserError(f'{path} cannot be read as {encoding} ({error.reason}): save it as UTF-8.') from None
    if '\0' in text:
        raise UserError(
            f'{path} is no list of names: it holds zero bytes, as UTF-16 without a byte order mark and binary files '
            'do; save it as UTF-8.'
        )
    return text


def _is_comment(line, root):
    """Whether a line names no file; the list of a labeled dataset has a class behind the name."""
    if not line.startswith('#'):
        return False
    names = {line, line.rsplit(maxsplit=1)[0]}
    return not any(os.path.isfile(os.path.join(root, name)) for name in names)


def _from_coco(path, split):
    try:
        images = json.loads(path.read_bytes())['images']
        names = [os.path.join(split or '', image['file_name']) for image in images]
        for name in names:
            os.fsencode(name)  # JSON can hold halves of characters, of which no name consists
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        reason = f'the key {error} is missing' if isinstance(error, KeyError) else error
        raise UserError(f'{path} is no COCO annotation file: it needs images[].file_name ({reason}).') from None
    return names
