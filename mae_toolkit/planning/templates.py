"""Find the configs that come with the toolkit."""

from __future__ import annotations

from pathlib import Path

import mae_toolkit
from mae_toolkit.errors import UserError


def find_template(family: str) -> Path:
    """Return the template of a family of encoders, in the package or in the repository around it.

    Args:
        family: Its name, such as ``'vit'``.

    Raises:
        UserError: If the configs are missing.
    """
    package = Path(mae_toolkit.__file__).resolve().parent
    folders = (package / 'configs', package.parent / 'configs')
    for folder in folders:
        path = folder / 'pretrain' / 'custom' / f'{family}.py'
        if path.is_file():
            return path
    raise UserError(f'The configs of the toolkit are neither in {folders[0]} nor in {folders[1]}: install it anew.')
