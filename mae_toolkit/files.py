"""Writing files so that a kill or a full disk never leaves half of one under its name."""

import os
import re
from contextlib import contextmanager
from pathlib import Path


def atomic_write(path, content):
    """Write a file whole or not at all.

    The content goes to a hidden temporary file in the same folder, reaches the disk, and then takes the name.

    Args:
        path (str | Path): The file; its folder is made if there is none.
        content (bytes | str | Callable): What to write, or a function that writes it to the open binary file it gets.

    Raises:
        OSError: If it cannot be written (a full disk); what was under the name before is untouched.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with _temporary(path) as temporary:
        with open(temporary, 'wb') as file:
            _fill(file, content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    _sync_folder(path.parent)


def remove_partial(folder, pattern='*'):
    """Remove what killed writers left of files that match ``pattern``; returns the paths removed.

    Only regular files directly in the folder under names that :func:`atomic_write` gives are removed.
    """
    left = sorted(Path(folder).glob(f'.{pattern}.*.partial'))
    left = [path for path in left if re.search(r'\.\d+\.partial$', path.name) and _is_regular(path)]
    for path in left:
        path.unlink(missing_ok=True)
    return left


def _is_regular(path):
    return path.is_file() and not path.is_symlink()


@contextmanager
def _temporary(path):
    temporary = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        yield temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def _fill(file, content):
    if callable(content):
        content(file)
    else:
        file.write(content.encode() if isinstance(content, str) else content)


def _sync_folder(folder):
    """The new name itself is only on the disk when the folder is."""
    if os.name == 'nt':  # a folder cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
