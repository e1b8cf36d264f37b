"""Names such as ``last`` and ``best`` for checkpoints, as symbolic links, or as text where there are none."""

import os
from pathlib import Path

from mae_toolkit.files import atomic_write

LONGEST = 256  # characters of the name of a checkpoint


def set_link(folder: Path, name: str, target: str) -> None:
    """Let a name in a folder stand for a checkpoint beside it; it changes at once, and a kill leaves the old or new.

    Args:
        folder: The folder.
        name: The name, such as ``'best'``.
        target: The name of the checkpoint.

    Raises:
        FileExistsError: If something that is no link has the name.
    """
    path = folder / name
    if os.path.lexists(path) and not path.is_symlink() and read_link(path) is None:
        raise FileExistsError(f'{path} is no link to a checkpoint, and stays as it is')
    temporary = folder / f'.{name}.{os.getpid()}.partial'
    temporary.unlink(missing_ok=True)
    try:
        temporary.symlink_to(target, target_is_directory=True)
        os.replace(temporary, path)
    except (OSError, NotImplementedError):  # a file system, or a Windows, without them
        temporary.unlink(missing_ok=True)
        atomic_write(path, target + '\n')


def read_link(path: str | Path) -> Path | None:
    """Return the checkpoint that a link stands for, whether it exists or not; None if the path is no link."""
    path = Path(path)
    if path.is_symlink():
        return path.parent / os.readlink(path)
    if not path.is_file() or path.suffix or path.stat().st_size > LONGEST:
        return None
    text = path.read_text(errors='replace').strip()
    target = path.parent / text if text and '\0' not in text else None
    return target if target is not None and target.name == text and target.exists() else None


def find_linked(folder: str | Path) -> set[str]:
    """Return the names in a folder that links in it, whoever made them, stand for, or for something within."""
    folder = Path(folder).resolve()
    targets = [target.resolve() for path in sorted(folder.iterdir()) if (target := read_link(path)) is not None]
    return {target.relative_to(folder).parts[0] for target in targets if folder in target.parents}
