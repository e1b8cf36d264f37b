"""Write files without destroying others: what is read, what another program wrote, or what is not a regular file."""

import hashlib
import io
import json
import os
import stat
import zipfile
import zlib
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import format_count, printable

MARK = 'mae_toolkit'
SOFTWARE = 'Software'  # the keyword of PNG for the program that wrote it
WRITTEN_BY = 'written_by'  # the key in the metadata of safetensors
NAME_BYTES = 200  # of 255 that file systems allow: the rest is for numbers and suffixes
SPECIAL = {stat.S_ISCHR: 'a device', stat.S_ISBLK: 'a device', stat.S_ISFIFO: 'a pipe', stat.S_ISSOCK: 'a socket'}


def describe_special_file(path: str | Path) -> str | None:
    """Name what a path is if it is not a regular file or folder: ``'a device'``, ``'a pipe'`` or ``'a socket'``.

    Args:
        path: The path; links are followed.

    Returns:
        The name; None for a regular file, a folder or nothing.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return None
    return next((name for is_one, name in SPECIAL.items() if is_one(mode)), None)


def check_output(
    path: str | Path,
    force: bool = False,
    inputs: Iterable[str | Path | None] = (),
    is_own: Callable[[Path], bool] | None = None,
) -> None:
    """Refuse to write a file where that would destroy something.

    Args:
        path: The file to be written.
        force: Replace an existing file, or a link itself, but not what it points to.
        inputs: Files that are read, which are never replaced; None is ignored.
        is_own: Function that says whether the same tool wrote an existing file, so that it may be replaced.

    Raises:
        UserError: If the path is a device or the like, an input, or exists already.
    """
    path = Path(path)
    if kind := describe_special_file(path):
        raise UserError(f'{printable(path)} is {kind}, which is not written to: name a file.')
    for read in inputs:
        if read is not None and _is_same(path, read):
            raise UserError(f'{printable(path)} is {printable(read)}, which is read: write to another file.')
    if force or not os.path.lexists(path):
        return
    if path.is_symlink():
        raise UserError(
            f'{printable(path)} is a link to {printable(os.readlink(path))}: name that file, or replace the link, and '
            'not the file behind it, with --force.'
        )
    if is_own is None or not is_own(path):
        raise UserError(
            f'{printable(path)} is there already, and this tool did not write it: name another file, or replace it '
            'with --force.'
        )


def check_output_folder(folder: str | Path, names: Iterable[str], force: bool, is_own: Callable[[Path], bool]) -> None:
    """Refuse to write into a folder where that would replace files of other programs.

    Args:
        folder: The folder; it need not exist.
        names: Names of the files that may be written.
        force: Replace existing files, whoever wrote them.
        is_own: Function that says whether the same tool wrote an existing file.

    Raises:
        UserError: If the path is not a folder, or the folder holds files of these names that the tool did not write.
    """
    folder = Path(folder)
    if os.path.lexists(folder) and not folder.is_dir():
        raise UserError(f'{printable(folder)} is {describe_special_file(folder) or "a file"}: name a folder.')
    if not folder.is_dir():
        return
    names = set(names)
    with os.scandir(folder) as entries:
        planned = sorted(entry.name for entry in entries if entry.name in names)
    for name in planned:
        if (folder / name).is_dir() and not (folder / name).is_symlink():
            raise UserError(
                f'{printable(folder)} holds a folder {printable(name)}, where a file goes: write elsewhere.'
            )
    foreign = [] if force else [name for name in planned if not is_own(folder / name)]
    if foreign:
        raise UserError(
            f'{printable(folder)} holds {format_count(len(foreign), "file")} that this tool did not write and would '
            f'replace, such as {printable(foreign[0])}: name another folder, or replace them with --force.'
        )


def make_file_name(text: str) -> str:
    """Make a file name without suffix from any text: printable, and no longer than file systems allow.

    Characters that cannot be printed become ``%`` and two hexadecimal digits. A long name is cut, and ends in a hash of
    the whole text.

    Args:
        text: The text, such as the name of another file.
    """
    name = ''.join(char if char.isprintable() else f'%{ord(char) & 0xFF:02X}' for char in text)
    encoded = name.encode()
    if len(encoded) <= NAME_BYTES:
        return name
    digest = hashlib.sha256(text.encode('utf-8', 'surrogateescape')).hexdigest()[:8]
    return f'{encoded[: NAME_BYTES - 9].decode(errors="ignore")}-{digest}'


def check_picture_name(path: str | Path) -> None:
    """Refuse a name that does not end in .png, before any work is done.

    Raises:
        UserError: In this case.
    """
    if Path(path).suffix.lower() != '.png':
        raise UserError(f'{printable(path)}: the picture is a PNG; name a file ending in .png.')


def write_picture(path: str | Path, picture: Image.Image, tool: str) -> None:
    """Write a picture whole or not at all; the metadata of a PNG name the tool that wrote it.

    Args:
        path: The file, with a suffix that Pillow knows.
        picture: The picture.
        tool: Name of the tool.
    """
    path, buffer = Path(path), io.BytesIO()
    if path.suffix.lower() == '.png':
        about = PngInfo()
        about.add_text(SOFTWARE, f'{MARK} {tool}')
        picture.save(buffer, 'PNG', pnginfo=about)
    else:
        picture.save(buffer, Image.registered_extensions()[path.suffix.lower()])
    atomic_write(path, buffer.getvalue())


def is_own_picture(path: str | Path, tool: str) -> bool:
    """Return whether a file is a PNG that :func:`write_picture` wrote for a tool; links are not followed.

    Args:
        path: The file.
        tool: Name of the tool.
    """
    path = Path(path)
    mark = f'tEXt{SOFTWARE}\0{MARK} {tool}'.encode()
    if path.is_symlink() or not path.is_file():
        return False
    with open(path, 'rb') as file:
        return mark in file.read(4096)


def weights_mark(tool: str) -> dict[str, str]:
    """Return the entry for the metadata of safetensors, or ``meta`` of a checkpoint, that names the tool that wrote it.

    Args:
        tool: Name of the tool.
    """
    return {WRITTEN_BY: f'{MARK} {tool}'}


def is_own_weights(path: str | Path, tool: str) -> bool:
    """Return whether a file of weights has a tool's :func:`weights_mark`; nothing is unpickled.

    Args:
        path: A file of safetensors or of ``torch.save``.
        tool: Name of the tool.
    """
    if zipfile.is_zipfile(path):
        return _names_tool(path, tool)
    with open(path, 'rb') as file:
        size = int.from_bytes(file.read(8), 'little')
        if not 2 <= size <= 100_000_000:  # the format's own limit
            return False
        header = _parse_json(file.read(size))
    metadata = header.get('__metadata__') if isinstance(header, dict) else None
    return isinstance(metadata, dict) and metadata.get(WRITTEN_BY) == f'{MARK} {tool}'


def _names_tool(path: str | Path, tool: str) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            pickles = [member for member in archive.infolist() if member.filename.endswith('/data.pkl')]
            return any(
                member.file_size < 1 << 26 and f'{MARK} {tool}'.encode() in archive.read(member) for member in pickles
            )
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError, ValueError, zlib.error):  # damaged: not its own
        return False


def is_numbers(path: str | Path) -> bool:
    """Return whether a file is a JSON object of numbers and nulls, as ``tools/test.py`` writes it."""
    if os.path.getsize(path) > 1 << 20:
        return False
    found = _parse_json(Path(path).read_bytes())
    return isinstance(found, dict) and all(value is None or type(value) in (int, float) for value in found.values())


def _parse_json(content: bytes) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        return None


def _is_same(path: Path, other: str | Path) -> bool:
    try:
        return os.path.samefile(path, other)
    except OSError:
        return False
