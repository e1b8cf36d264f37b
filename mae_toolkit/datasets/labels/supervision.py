"""The library that reads YOLO and Pascal VOC, which is loaded only for them."""

from importlib import import_module
from typing import Any

from mae_toolkit.errors import UserError


def import_format(name: str) -> Any:
    """Import supervision's module for a format.

    Args:
        name: ``'yolo'`` or ``'pascal_voc'``.

    Raises:
        UserError: If supervision is not installed.
    """
    try:
        return import_module(f'supervision.dataset.formats.{name}')
    except ImportError:
        raise UserError(
            "YOLO and Pascal VOC labels are read by the library supervision: pip install 'mae_toolkit[labels]'."
        ) from None
