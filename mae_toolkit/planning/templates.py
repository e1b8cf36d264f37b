"""Find the configs that come with the toolkit."""

from __future__ import annotations

from pathlib import Path

import mae_toolkit
from mae_toolkit.errors import UserError


def find_template(family: str, has_weights: bool = False) -> Path:
    """Return the template of a family of encoders, in the package or in the repository around it.

    Args:
        family: Its name, such as ``'vit'``.
        has_weights: Whether the encoder begins with weights.

    Raises:
        UserError: If the configs are missing.
    """
    return find_config(f'{"continue" if has_weights else "pretrain/custom"}/{family}.py')


def find_config(name: str) -> Path:
    """Return a config of the toolkit, in the package or in the repository around it.

    Args:
        name: Path below ``configs``, such as ``'detection/custom_faster-rcnn.py'``.

    Raises:
        UserError: If the configs are missing.
    """
    package = Path(mae_toolkit.__file__).resolve().parent
    folders = (package / 'configs', package.parent / 'configs')
    for folder in folders:
        if (folder / name).is_file():
            return folder / name
    raise UserError(f'The configs of the toolkit are neither in {folders[0]} nor in {folders[1]}: install it anew.')
