"""Arguments that datasets share: whole numbers, and which images are held out."""

from __future__ import annotations

from typing import TypeVar

import numpy as np

from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count

T = TypeVar('T')


def check_integer(name: str, value: object, minimum: int, description: str) -> None:
    """Refuse an argument that is not a whole number, or is below a minimum.

    Args:
        name: Name of the argument, with which the error begins.
        value: The value of the argument.
        minimum: The least value that is accepted.
        description: What the argument means, such as ``'how many channels the images get'``.

    Raises:
        UserError: With the name, the value and the minimum.
    """
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < minimum:
        raise UserError(f'{name}={value!r} must be a whole number of at least {minimum}: {description}.')


def apply_hold_out(names: list[T], hold_out: int | None) -> list[T]:
    """Leave every n-th item out of a list, the first one included, or keep only those.

    For example, 3 leaves items 1, 2, 4 and 5 of items 0 to 6, and -3 leaves items 0, 3 and 6.

    Args:
        names: The items, such as names of images.
        hold_out: n to leave items out, -n to keep only those; None to keep all.

    Raises:
        UserError: If ``hold_out`` is 0 or not a whole number, or nothing is left.
    """
    check_hold_out(hold_out)
    if hold_out is None:
        return names
    kept = [name for i, name in enumerate(names) if (i % abs(hold_out) == 0) == (hold_out < 0)]
    if not kept:
        raise UserError(
            f'hold_out={hold_out} leaves none of {format_count(len(names), "image")}: use another number, or more '
            'images.'
        )
    return kept


def check_hold_out(hold_out: object) -> None:
    """Refuse a value that does not say which images are held out.

    Args:
        hold_out: See :func:`apply_hold_out`.

    Raises:
        UserError: If it is 0 or not a whole number.
    """
    if hold_out is None:
        return
    if isinstance(hold_out, bool) or not isinstance(hold_out, int | np.integer) or hold_out == 0:
        raise UserError(
            f'hold_out={hold_out!r} must be None or a whole number other than 0: 10 leaves out every tenth image, and '
            '-10 takes only those.'
        )
