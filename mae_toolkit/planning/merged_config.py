"""The text of a complete config: settings and their reasons at the top, nothing inherited, expressions kept.

A template of ``configs/`` inherits from bases and has knobs (:mod:`mae_toolkit.config.knobs`) at its top. What is
written into the folder of a run has no base, so that it is read from top to bottom and stays the same when the toolkit
changes; it still derives from its knobs what the template does.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator, Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.config.checks import list_runner_keys
from mae_toolkit.config.knobs import BASE, Knob, set_knobs
from mae_toolkit.config.load import load_config, merge_options
from mae_toolkit.planning.config_text import split_options

WIDTH = 120
STEP = 4  # blanks of an indentation

Place = tuple[str, ...]  # keys from the top of a config to a value


def complete_config(
    template: Path,
    knobs: Mapping[str, Knob],
    header: str,
    change: Callable[[Config], Config] | None = None,
    options: Mapping[str, Any] | None = None,
) -> str:
    """Write a template as a complete config.

    Example: a template with ``size = 224`` and ``model = dict(img_size=size)`` whose base says ``model =
    dict(type='Net')`` becomes ``size = 160  # the median of your images`` and ``model = dict(type='Net',
    img_size=size)``.

    Args:
        template: A config whose knobs stand at its top.
        knobs: Values and reasons, by name.
        header: Goes to the top as a comment.
        change: Changes the evaluated config, as :func:`~mae_toolkit.downstream.fit_encoder` does.
        options: Values by dotted key, as of ``--cfg-options``; those that are knobs replace the others.

    Raises:
        UserError: If the template or an option cannot be read.
    """
    wanted, others = split_options(template, options or {})
    chosen = {**knobs, **wanted}
    before = load_config(template, {name: knob.value for name, knob in chosen.items()})
    after = deepcopy(before)
    after = change(after) if change else after
    merge_options(after, others)
    text = set_knobs(template.read_text(encoding='utf-8'), chosen)
    comment = '\n'.join(f'# {line}'.rstrip() for line in header.splitlines())
    return f'{comment}\n\n{_join(text, _inherited(template), before, after)}'


def _inherited(template: Path) -> dict[str, Any]:
    """Return what the bases of a config say, joined."""
    tree = ast.parse(template.read_text(encoding='utf-8'))
    named = [node.value for node in tree.body if isinstance(node, ast.Assign) and _name_of(node) == BASE]
    bases = ast.literal_eval(named[0]) if named else []
    joined = Config()
    for base in [bases] if isinstance(bases, str) else bases:
        joined.merge_from_dict(Config.fromfile(str(template.parent / base)).to_dict())
    return joined.to_dict()


def _join(text: str, inherited: Mapping[str, Any], before: Config, after: Config) -> str:
    """Write the statements of a text in their order, with the inherited parts in their places."""
    lines, parts = text.splitlines(), []
    start, names = 0, set()
    for node in ast.parse(text).body:
        end = node.end_lineno or node.lineno
        leading, statement = lines[start : node.lineno - 1], lines[node.lineno - 1 : end]
        start, name = end, _name_of(node)
        if name == BASE:
            continue  # and what stands above, the head of the template
        names.add(name)
        kept = name not in after or (name not in inherited and after[name] == before[name])
        if not kept:
            expressions = _find_expressions(node, text, inherited, before, after)
            statement = _write(f'{name} = ', after[name], (name,), expressions, 0)
        parts.append('\n'.join([*leading, *statement]))
    rest = [name for name in after if name not in names and name in list_runner_keys()]
    parts += ['', *('\n'.join(_write(f'{name} = ', after[name], (name,), {}, 0)) for name in rest)]
    return '\n'.join(parts).strip('\n') + '\n'


def _name_of(node: ast.stmt) -> str:
    single = isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    return node.targets[0].id if single else ''  # type: ignore[attr-defined]


def _find_expressions(
    node: ast.stmt, text: str, inherited: Mapping[str, Any], before: Config, after: Config
) -> dict[Place, str]:
    """Find the parts of an assignment that are derived from names, and have the same value in the end."""
    found = {}
    if isinstance(node, ast.Assign):
        for place, value in _walk(node.value, (_name_of(node),), inherited):
            source = ast.get_source_segment(text, value)
            old, new = _look_up(before, place), _look_up(after, place)
            if source and '\n' not in source and old == new and type(old) is type(new):
                found[place] = source
    return found


def _walk(value: ast.expr, place: Place, inherited: Mapping[str, Any]) -> Iterator[tuple[Place, ast.expr]]:
    """Yield place and expression of all that is derived from names, within lists and calls of ``dict``."""
    if isinstance(value, ast.Call) and getattr(value.func, 'id', '') == 'dict' and not value.args:
        for keyword in value.keywords:
            if keyword.arg is not None:
                yield from _walk(keyword.value, (*place, keyword.arg), inherited)
    elif isinstance(value, ast.List | ast.Tuple):
        for i, item in enumerate(value.elts):
            yield from _walk(item, (*place, str(i)), inherited)
    elif isinstance(_look_up(inherited, place), Mapping):  # a part that is joined with an inherited one
        branches = [value.body, value.orelse] if isinstance(value, ast.IfExp) else []
        for branch in branches:
            yield from _walk(branch, place, inherited)
    elif any(isinstance(part, ast.Name) for part in ast.walk(value)):
        yield place, value


def _look_up(config: Any, place: Place) -> Any:
    """Return what a config has at a place; None if there is nothing."""
    for key in place:
        if isinstance(config, list | tuple):
            config = config[int(key)] if int(key) < len(config) else None
        else:
            config = config.get(key) if isinstance(config, Mapping | Config) else None
    return config


def _write(start: str, value: Any, place: Place, expressions: Mapping[Place, str], indent: int) -> list[str]:
    """Write a value behind ``start``, in one line if it fits."""
    whole = ' ' * indent + start + _inline(value, place, expressions)
    if len(whole) + 1 <= WIDTH or not isinstance(value, dict | list | tuple) or not value or place in expressions:
        return [whole]
    opening, closing = ('dict(', ')') if isinstance(value, dict) else ('[', ']') if isinstance(value, list) else '()'
    lines = [' ' * indent + start + opening]
    for key, item, inner in _items(value, place):
        part = _write(key, item, inner, expressions, indent + STEP)
        part[-1] += ','
        lines += part
    return [*lines, ' ' * indent + closing]


def _inline(value: Any, place: Place, expressions: Mapping[Place, str]) -> str:
    if place in expressions:
        return expressions[place]
    if isinstance(value, dict) and all(str(key).isidentifier() for key in value):
        parts = [key + _inline(item, inner, expressions) for key, item, inner in _items(value, place)]
        return f'dict({", ".join(parts)})'
    if isinstance(value, list | tuple):
        items = [_inline(item, inner, expressions) for _, item, inner in _items(value, place)]
        text = ', '.join(items) + (',' if isinstance(value, tuple) and len(items) == 1 else '')
        return f'[{text}]' if isinstance(value, list) else f'({text})'
    return repr(value)


def _items(value: Any, place: Place) -> list[tuple[str, Any, Place]]:
    """Return what stands before each item, the item, and its place."""
    if isinstance(value, dict):
        return [(f'{key}=', item, (*place, str(key))) for key, item in value.items()]
    return [('', item, (*place, str(i))) for i, item in enumerate(value)]
