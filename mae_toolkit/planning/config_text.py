"""The text of a config that needs no other file: a template with its bases inlined, and settings written into it."""

from __future__ import annotations

import ast
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mae_toolkit.config.checks import list_runner_keys
from mae_toolkit.config.knobs import Knob, list_knobs, set_knobs

BASE = '_base_'


@dataclass
class _Statement:
    """A statement at the top level of a config, with the comments above it, and what it assigns to a name."""

    name: str
    text: str
    value: ast.expr


def inline_bases(path: Path) -> str:
    """Write a config and its bases as one text: the settings of all files first, then what is derived from them.

    A setting of a base that the config sets anew stands once, with the config's value. A dict that a base has assigned
    and the config changes, which MMEngine would merge, is updated by statements: ``model['encoder'].update(depth=2)``.

    Args:
        path: The config. The comment at its top is left out.

    Raises:
        ValueError: If a file assigns something else than a dict to a name of its bases that is no setting.
    """
    knobs: dict[str, str] = {}
    derived: list[str] = []
    values: dict[str, ast.expr] = {}
    known = list_knobs(path, list_runner_keys())
    for file in _list_files(path):
        for statement in _read_statements(file, keep_header=file != path):
            if statement.name in known:
                knobs[statement.name] = statement.text
            elif statement.name in values:
                derived += _write_updates(statement.name, values[statement.name], statement.value)
            else:
                derived.append(statement.text)
                values[statement.name] = statement.value
    text = '\n'.join(knobs.values()) + '\n\n' + '\n'.join(derived) + '\n'
    text = re.sub(r'\n{2,}', '\n\n', text)
    return re.sub(rf'\b{BASE}\.(?=\w)', '', text)


def write_config(path: Path, knobs: Mapping[str, Knob], options: Mapping[str, Any], header: str) -> str:
    """Write a template as one text with a run's settings, each with its reason behind it, and options at its end.

    Args:
        path: The template.
        knobs: Values and reasons of settings.
        options: ``--cfg-options`` of the command, which come last; those of settings have replaced them in ``knobs``.
        header: Comment at the top, without ``#``.
    """
    lines = ''.join(f'# {line}'.rstrip() + '\n' for line in header.splitlines())
    text = f'{lines}\n{set_knobs(inline_bases(path), knobs)}'
    if options:
        text += '\n# --cfg-options of the command that wrote this file\n'
        text += ''.join(_write_option(key, value) for key, value in options.items())
    return text


def _write_option(key: str, value: Any) -> str:
    """Write an option as a statement: ``a.b.0=1`` becomes ``a['b'][0] = 1``."""
    first, *parts = key.split('.')
    path = ''.join(f'[{int(part)}]' if part.isdigit() else f'[{part!r}]' for part in parts)
    return f'{first}{path} = {value!r}\n'


def _write_updates(place: str, old: ast.expr, new: ast.expr) -> list[str]:
    """Write statements that change a dict as MMEngine merges another into it, from the calls that make both.

    Raises:
        ValueError: If the new value is not a call of ``dict``, or cannot be merged without being evaluated.
    """
    if not (_is_dict(old) and _is_dict(new)):
        raise ValueError(f'{place} is assigned a second time, and not by two dicts, which cannot be inlined.')
    before = {keyword.arg: keyword.value for keyword in old.keywords}  # type: ignore[attr-defined]
    lines, replaced = [], []
    for keyword in new.keywords:  # type: ignore[attr-defined]
        if keyword.arg in before and _is_dict(before[keyword.arg]) and _is_dict(keyword.value):
            lines += _write_updates(f'{place}[{keyword.arg!r}]', before[keyword.arg], keyword.value)
        else:
            replaced.append(ast.unparse(keyword))
    return [*lines, f'{place}.update({", ".join(replaced)})'] if replaced else lines


def _is_dict(node: ast.expr) -> bool:
    """Return whether an expression is a call of ``dict`` with keywords alone, without ``_delete_``."""
    is_call = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict'
    return is_call and not node.args and all(k.arg not in (None, '_delete_') for k in node.keywords)  # type: ignore[attr-defined]


def _list_files(path: Path) -> list[Path]:
    """List a config and all its bases, bases first, each once."""
    found: list[Path] = []
    for node in ast.parse(path.read_text(encoding='utf-8')).body:
        if isinstance(node, ast.Assign) and _name_of(node) == BASE:
            named = ast.literal_eval(node.value)
            for base in [named] if isinstance(named, str) else named:
                found += _list_files((path.parent / base).resolve())
    return list(dict.fromkeys([*found, path]))


def _read_statements(path: Path, keep_header: bool) -> list[_Statement]:
    """Read the statements of a config; comments above ``_base_`` go to the next statement, or are left out."""
    text = path.read_text(encoding='utf-8')
    lines, begin, carried = text.splitlines(), 0, ''
    statements = []
    for node in ast.parse(text).body:
        assert node.end_lineno is not None
        written = '\n'.join(lines[begin : node.end_lineno])
        begin = node.end_lineno
        name = _name_of(node)
        if name == BASE:
            comments = written[: written.index(BASE)].strip('\n')
            carried = f'\n{comments}\n' if keep_header and comments else ''
            continue
        value = getattr(node, 'value', ast.Constant(None))
        statements.append(_Statement(name or written, carried + written.strip('\n'), value))
        carried = ''
    return statements


def _name_of(node: ast.stmt) -> str:
    """Return the name that a statement assigns, or nothing."""
    is_plain = isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name)
    return node.targets[0].id if is_plain else ''  # type: ignore[attr-defined]


def split_options(path: Path, options: Mapping[str, Any]) -> tuple[dict[str, Knob], dict[str, Any]]:
    """Split options of the command line into those of a template's settings and all others.

    Args:
        path: The template.
        options: Values by dotted key.
    """
    known: Collection[str] = list_knobs(path, list_runner_keys())
    knobs = {name: Knob(value, '--cfg-options') for name, value in options.items() if name in known}
    return knobs, {name: value for name, value in options.items() if name not in known}
