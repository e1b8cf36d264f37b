"""Read JSON files of our own back, and find out what is damaged in one before anything uses it."""

import json
from pathlib import Path
from types import UnionType

from mae_toolkit.errors import UserError

Shape = type | UnionType | dict | list | tuple  # what a value is: see find_damage
NUMBER = int | float


def read_record(path: str | Path, shape: Shape) -> object | None:
    """Read a JSON file that has a known shape; None where there is no such file, or it holds ``null``.

    Args:
        path: The file.
        shape: What it holds, see :func:`find_damage`.

    Raises:
        UserError: If it holds something else.
    """
    try:
        content = json.loads(Path(path).read_text())
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise damaged_record(path, str(error)) from None
    if content is not None and (damage := find_damage(content, shape)):
        raise damaged_record(path, damage)
    return content


def damaged_record(path: str | Path, damage: str) -> UserError:
    """Make the error for a file of ours that somebody or something has changed."""
    return UserError(f'{path} is damaged ({damage}): delete it, and what is then missing is done again.')


def find_damage(content: object, shape: Shape, name: str = 'it') -> str | None:
    """Find the first place at which plain values have not the shape that they should have.

    Args:
        content: Plain values, as JSON has them.
        shape: A type, or several (``int | None``); a tuple of shapes of which one must fit; a list of the shapes of its
            items; a dict of the shapes of the values that must be there, with the key ``'*'`` for that of all others.
        name: What the content is called in the answer.

    Returns:
        The answer, such as ``"seed is 'x'"``; None if nothing is wrong.
    """
    if isinstance(shape, tuple):
        damages = [find_damage(content, one, name) for one in shape]
        return damages[-1] if all(damages) else None
    if isinstance(shape, dict):
        if not isinstance(content, dict):
            return f'{name} is {_short(content)}'
        if lacking := [key for key in shape if key != '*' and key not in content]:
            return f'{name} lacks {lacking[0]!r}'
        parts = [(value, shape.get(key, shape.get('*', object)), key) for key, value in content.items()]
    elif isinstance(shape, list):
        if not isinstance(content, list) or len(content) != len(shape):
            return f'{name} is {_short(content)}'
        parts = [(value, part, f'{name}[{i}]') for i, (value, part) in enumerate(zip(content, shape, strict=True))]
    else:
        is_bool = isinstance(content, bool) and shape in (int, NUMBER)  # which Python takes for a number
        return f'{name} is {_short(content)}' if is_bool or not isinstance(content, shape) else None
    return next(filter(None, (find_damage(*part) for part in parts)), None)


def _short(value):
    text = repr(value)
    return text if len(text) <= 40 else f'{text[:39]}…'
