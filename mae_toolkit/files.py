"""Write files so that a kill or a full disk never leaves half of one under its name."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

Content = bytes | str | Callable[[BinaryIO], object]


def atomic_write(path: str | Path, content: Content) -> None:
    """Write a file whole or not at all.

    The content goes to a hidden temporary file in the same folder, is flushed to the disk, and then takes the name.

    Args:
        path: The file; its folder is created if needed.
        content: Bytes, text (written as UTF-8), or a function that writes to the open binary file it is given, such as
            ``lambda file: torch.save(state, file)``.

    Raises:
        OSError: If the file cannot be written, as on a full disk; what was under the name before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary_file(path) as temporary:
        with open(temporary, 'wb') as file:
            _write_content(file, content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    sync_folder(path.parent)


def remove_partial(folder: str | Path, pattern: str = '*') -> list[Path]:
    """Remove the temporary files that killed calls of :func:`atomic_write` have left in a folder.

    Only regular files directly in the folder, with the names that :func:`atomic_write` gives, are removed.

    Args:
        folder: The folder.
        pattern: Glob pattern of the files that were to be written, such as ``'*.pth'``.

    Returns:
        The paths that were removed.
    """
    partial = sorted(Path(folder).glob(f'.{pattern}.*.partial'))
    partial = [path for path in partial if re.search(r'\.\d+\.partial$', path.name) and _is_regular(path)]
    for path in partial:
        path.unlink(missing_ok=True)
    return partial


def sync_folder(folder: str | Path) -> None:
    """Flush a folder, without which a new name in it may be lost in a power failure, or unseen over NFS."""
    if os.name == 'nt':  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _is_regular(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


@contextmanager
def _temporary_file(path: Path) -> Iterator[Path]:
    """Give the temporary name of a file, and remove what is under it if the block fails."""
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _write_content(file: BinaryIO, content: Content) -> None:
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)
