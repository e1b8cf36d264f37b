"""The text of a config that needs no other file: settings with their reasons at the top, and what is derived from them.

A template of ``configs/`` inherits from bases, and has settings (:mod:`mae_toolkit.config.knobs`). What is written into
the folder of a run has no base, so that it is read from top to bottom and stays the same when the toolkit changes; what
the template derives from its settings still follows them.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.config.checks import list_runner_keys
from mae_toolkit.config.knobs import Knob, list_knobs, set_knobs
from mae_toolkit.config.load import load_config, merge_options
from mae_toolkit.files import atomic_write
from mae_toolkit.planning.config_statements import Place, Statement, find_expressions, read_statements
from mae_toolkit.planning.config_values import write_assignment


@dataclass(frozen=True)
class ConfigFile:
    """Where the config of a run is written, and what goes into it beside the settings.

    Attributes:
        path: The file.
        header: Comment at its top, without ``#``.
        options: Values by dotted key that are no settings, see :func:`split_options`.
    """

    path: Path
    header: str
    options: Mapping[str, Any]

    def write(
        self, template: Path, knobs: Mapping[str, Knob], change: Callable[[Config], Config] | None = None
    ) -> Path:
        """Write a template with the settings of the run, see :func:`write_config`, and return the path."""
        atomic_write(self.path, write_config(template, knobs, self.header, self.options, change))
        return self.path


def write_config(
    template: Path,
    knobs: Mapping[str, Knob],
    header: str,
    options: Mapping[str, Any] | None = None,
    change: Callable[[Config], Config] | None = None,
) -> str:
    """Write a template as one text with the settings of a run, each with its reason behind it.

    Statements stay as they are, with their comments, if they still give the value that the whole config has. Others,
    such as a dict that two files assign and MMEngine merges, are written anew, with the expressions that hold.

    Example: a template with ``size = 224`` and ``model = dict(img_size=size)`` whose base says ``model =
    dict(type='Net')`` becomes ``size = 160  # the median of your images`` and ``model = dict(type='Net',
    img_size=size)``.

    Args:
        template: The config.
        knobs: Values and reasons of settings.
        header: Comment at the top, without ``#``.
        options: Values by dotted key that are no settings, see :func:`split_options`.
        change: Changes the evaluated config, as :func:`~mae_toolkit.downstream.fit_encoder` does.

    Raises:
        UserError: If the template or an option cannot be read.
    """
    cfg = load_config(template, {name: knob.value for name, knob in knobs.items()})
    cfg = change(cfg) if change else cfg
    merge_options(cfg, options or {})
    values, settings, known = cfg.to_dict(), list_knobs(template, list_runner_keys()), {}
    groups = {group[-1].name or group[-1].text: group for group in read_statements(template)}
    parts = [f'# {line}'.rstrip() for line in header.splitlines()] + ['']
    for name in settings:
        parts.append(groups.pop(name)[-1].text)
        known[name] = values[name]
    parts.append('')
    for name, group in groups.items():
        parts.append(_write_group(group, values, known))
        known |= {name: values[name]} if name in values else {}
    parts += [write_assignment(name, value, {}) for name, value in values.items() if name not in known]
    return set_knobs(re.sub(r'\n{3,}', '\n\n', '\n'.join(parts)) + '\n', knobs)


def split_options(template: Path, options: Mapping[str, Any]) -> tuple[dict[str, Knob], dict[str, Any]]:
    """Split options of the command line into those of a template's settings and all others.

    Args:
        template: The template.
        options: Values by dotted key.
    """
    known = list_knobs(template, list_runner_keys())
    knobs = {name: Knob(value, '--cfg-options') for name, value in options.items() if name in known}
    return knobs, {name: value for name, value in options.items() if name not in known}


def _write_group(group: Sequence[Statement], values: Mapping[str, Any], known: Mapping[str, Any]) -> str:
    """Write what assigns a name: the last statement if it gives the value, else a new one with the comments above it.

    Args:
        group: All statements that assign the name, bases first.
        values: The whole config.
        known: What is assigned above.
    """
    last = group[-1]
    if last.name not in values:  # no assignment, or of what is no part of a config, such as a function
        return last.text
    value = values[last.name]
    if _gives(ast.unparse(last.value), value, known):
        return last.text
    expressions = {
        place: text
        for place, text in find_expressions(group).items()
        if _gives(text, _look_up(value, place[1:]), known)
    }
    comments = takewhile(lambda line: not line or line.startswith('#'), last.text.splitlines())
    return '\n'.join([*comments, write_assignment(last.name, value, expressions)])


def _gives(text: str, value: Any, known: Mapping[str, Any]) -> bool:
    """Return whether an expression of a template gives a value by what is assigned above it."""
    try:
        found = eval(text, dict(known))
    except Exception:  # such as a name that is assigned below
        return False
    return type(found) is type(value) and found == value


def _look_up(value: Any, place: Place) -> Any:
    """Return what a value has at a place; None if there is nothing."""
    for key in place:
        if isinstance(value, list | tuple):
            value = value[int(key)] if key.isdigit() and int(key) < len(value) else None
        else:
            value = value.get(key) if isinstance(value, Mapping) else None
    return value
