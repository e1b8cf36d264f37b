"""Values as the text of a config, in which some of their parts are expressions."""

from __future__ import annotations

from collections.abc import Mapping
from keyword import iskeyword
from typing import Any

from mae_toolkit.planning.config_statements import Place

WIDTH = 120
STEP = 4  # blanks of an indentation


def write_assignment(name: str, value: Any, expressions: Mapping[Place, str]) -> str:
    """Write an assignment, in one line if it fits.

    Example: ``write_assignment('model', {'depth': 2, 'size': 8}, {('model', 'size'): 'size'})`` gives
    ``'model = dict(depth=2, size=size)'``.

    Args:
        name: What is assigned to.
        value: The value.
        expressions: What is written instead of the values at some places.
    """
    return '\n'.join(_write_lines(f'{name} = ', value, (name,), expressions, 0))


def _write_lines(start: str, value: Any, place: Place, expressions: Mapping[Place, str], indent: int) -> list[str]:
    whole = ' ' * indent + start + _write_inline(value, place, expressions)
    if len(whole) + 1 <= WIDTH or not isinstance(value, dict | list | tuple) or not value or place in expressions:
        return [whole]
    opening, closing = _choose_brackets(value)
    lines = [' ' * indent + start + opening]
    for key, item, inner in _list_items(value, place):
        part = _write_lines(key, item, inner, expressions, indent + STEP)
        part[-1] += ','
        lines += part
    return [*lines, ' ' * indent + closing]


def _write_inline(value: Any, place: Place, expressions: Mapping[Place, str]) -> str:
    if place in expressions:
        return expressions[place]
    if not isinstance(value, dict | list | tuple):
        return repr(value)
    opening, closing = _choose_brackets(value)
    items = [key + _write_inline(item, inner, expressions) for key, item, inner in _list_items(value, place)]
    comma = ',' if isinstance(value, tuple) and len(items) == 1 else ''
    return f'{opening}{", ".join(items)}{comma}{closing}'


def _has_keywords(value: dict) -> bool:
    """Return whether the keys of a dict can be arguments of ``dict``."""
    return all(isinstance(key, str) and key.isidentifier() and not iskeyword(key) for key in value)


def _choose_brackets(value: dict | list | tuple) -> tuple[str, str]:
    if isinstance(value, dict):
        return ('dict(', ')') if _has_keywords(value) else ('{', '}')
    return ('[', ']') if isinstance(value, list) else ('(', ')')


def _list_items(value: dict | list | tuple, place: Place) -> list[tuple[str, Any, Place]]:
    """Return what stands before each item, the item, and its place."""
    if isinstance(value, dict):
        form = '{}=' if _has_keywords(value) else '{!r}: '
        return [(form.format(key), item, (*place, str(key))) for key, item in value.items()]
    return [('', item, (*place, str(i))) for i, item in enumerate(value)]
