"""Find the configs that come with the toolkit."""

from __future__ import annotations

from pathlib import Path

from mae_toolkit.config.shipped import find_shipped
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
    if found := find_shipped(name):
        return found
    raise UserError(f'The config {name} of the toolkit is not there: install the toolkit anew.')
