"""The statements of a config and of all its bases, as one file would have them."""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mae_toolkit.config.knobs import BASE

Place = tuple[str, ...]  # name, keys and indices from the top of a config to a value


@dataclass(frozen=True)
class Statement:
    """A statement at the top level of a config.

    Attributes:
        name: The name that it assigns; empty if it is no assignment to one name.
        text: Its lines, with the comments above it and behind it.
        value: What it assigns.
    """

    name: str
    text: str
    value: ast.expr


def read_statements(path: Path) -> list[list[Statement]]:
    """Read the statements of a config and of its bases, those that assign the same name together.

    The groups have the order of their last statements, bases first. ``_base_.size`` is written ``size``.

    Args:
        path: The config.
    """
    groups: dict[str, list[Statement]] = {}
    for file in _list_files(path):
        for statement in _read_file(file):
            key = statement.name or statement.text
            groups[key] = [*groups.pop(key, []), statement]
    return list(groups.values())


def find_expressions(statements: Sequence[Statement]) -> dict[Place, str]:
    """Find the expressions of which the value of a name is made, by their places in it.

    Example: ``model = dict(depth=4)`` and, in a child, ``model = dict(size=(size, 2 * size))`` give ``4`` at
    ``('model', 'depth')``, ``size`` at ``('model', 'size', '0')`` and ``2 * size`` at ``('model', 'size', '1')``.

    Args:
        statements: All assignments of the name, bases first, which MMEngine merges if they are dicts.
    """
    found: dict[Place, ast.expr] = {}
    for statement in statements:
        _collect(statement.value, (statement.name,), found)
    return {place: ast.unparse(value) for place, value in found.items()}


def _collect(value: ast.expr, place: Place, found: dict[Place, ast.expr]) -> None:
    """Collect the parts of an expression, and drop those of bases that it replaces."""
    if isinstance(value, ast.Call) and _is_dict(value):
        found.pop(place, None)
        for keyword in value.keywords:
            if keyword.arg is not None:
                _collect(keyword.value, (*place, keyword.arg), found)
    elif isinstance(value, ast.IfExp) and any(len(other) > len(place) for other in _list_within(found, place)):
        for branch in (value.body, value.orelse):
            if _is_dict(branch):  # which is merged with what a base has in this place
                _collect(branch, place, found)
    else:
        for other in _list_within(found, place):
            del found[other]
        if isinstance(value, ast.List | ast.Tuple):
            for i, item in enumerate(value.elts):
                _collect(item, (*place, str(i)), found)
        else:
            found[place] = value


def _is_dict(value: ast.expr) -> bool:
    """Return whether an expression is a call of ``dict`` with keywords alone."""
    return isinstance(value, ast.Call) and getattr(value.func, 'id', '') == 'dict' and not value.args


def _list_within(found: dict[Place, ast.expr], place: Place) -> list[Place]:
    """List the places that are this one or lie in it."""
    return [other for other in found if other[: len(place)] == place]


def _list_files(path: Path) -> list[Path]:
    """List a config and all its bases, bases first, each once."""
    found: list[Path] = []
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and _get_name(node) == BASE:
            named = ast.literal_eval(node.value)
            for base in [named] if isinstance(named, str) else named:
                found += _list_files((path.parent / base).resolve())
    return list(dict.fromkeys([*found, path]))


def _read_file(path: Path) -> list[Statement]:
    """Read the statements of a file, without its ``_base_`` and the comments above that."""
    text = re.sub(rf'\b{BASE}\.(?=\w)', '', path.read_text(encoding='utf-8'))
    lines, begin = text.splitlines(), 0
    statements = []
    for node in ast.parse(text).body:
        name, end = _get_name(node), node.end_lineno or node.lineno
        if name != BASE:
            value = getattr(node, 'value', ast.Constant(None))
            statements.append(Statement(name, '\n'.join(lines[begin:end]), value))
        begin = end
    return statements


def _get_name(node: ast.stmt) -> str:
    """Return the name that a statement assigns; an empty one for other statements."""
    is_plain = isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    return node.targets[0].id if is_plain else ''  # type: ignore[attr-defined]
