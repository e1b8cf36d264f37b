"""Find the configs that come with the toolkit, in a checkout and in an installed package."""

from collections.abc import Iterator
from pathlib import Path

import mae_toolkit

FOLDER = 'configs'


def find_shipped(name: str | Path) -> Path | None:
    """Find a config that comes with the toolkit.

    Example: ``find_shipped('pretrain/quickstart.py')``.

    Args:
        name: Its path in ``configs/``, with or without ``configs/`` before it.

    Returns:
        The file; None if there is none of this name.
    """
    name = Path(name)
    if name.is_absolute() or '..' in name.parts:
        return None
    name = name.relative_to(FOLDER) if name.parts[:1] == (FOLDER,) else name
    return next((folder / name for folder in _folders() if (folder / name).is_file()), None)


def list_shipped() -> list[str]:
    """List the configs that come with the toolkit by name, without those that are only inherited from."""
    found = ((folder, path) for folder in list(_folders())[:1] for path in folder.rglob('*.py'))
    return sorted(path.relative_to(folder).as_posix() for folder, path in found if '_base_' not in path.parts)


def _folders() -> Iterator[Path]:
    """Find the folder of configs: in the package once it is installed, beside it in a checkout."""
    package = Path(mae_toolkit.__file__).resolve().parent
    return (folder / FOLDER for folder in (package, package.parent) if (folder / FOLDER / '_base_').is_dir())
