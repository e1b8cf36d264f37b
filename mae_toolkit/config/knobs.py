"""Settings at the top of a config file, which a child config or an option replaces before the file is evaluated.

A *knob* is a top-level assignment of a constant to a name that no part of a run reads, such as ``size = 224``, or that
the file itself reads. MMEngine evaluates a base before its child, so ``size = 160`` in a child would come too late for
what the base derived from it. Here the constant is replaced in the text of the base first, and everything derived from
it follows.
"""

import ast
import re
import tempfile
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from functools import lru_cache
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.config.keys import NEAR
from mae_toolkit.errors import UserError

CONSTANT = (
    *(ast.Expression, ast.Constant, ast.Tuple, ast.List, ast.Dict, ast.UnaryOp, ast.BinOp, ast.Load),
    *(ast.USub, ast.UAdd, ast.Add, ast.Sub, ast.Mult, ast.Div, ast.FloorDiv),  # but no power, which may take forever
)
BASE = '_base_'
KEPT = 256  # syntax trees of texts
WIDTH = 120  # columns of a written line, as far as its parts can be broken


@dataclass(frozen=True)
class Knob:
    """A value for a knob, and why it is this one.

    Attributes:
        value: A constant.
        reason: Goes into the config as a comment behind the value; none if empty.
    """

    value: Any
    reason: str = ''


def read_config(path: Path, keys: Collection[str], options: Mapping[str, Any] | None = None) -> Config:
    """Read a config file of MMEngine whose knobs may be replaced by its children and by options.

    Args:
        path: The file.
        keys: Top-level keys that a run reads; every other name is a variable of the config.
        options: Values by the names of knobs; they replace those of all files.

    Raises:
        UserError: If a child gives a base's knob a value that is no constant, or misspells its name.
        Exception: Whatever MMEngine raises for a config that cannot be evaluated.
    """
    _refuse_misspelled(path, keys)
    if not _replaced(path, keys, options or ()):
        return Config.fromfile(str(path))
    with tempfile.TemporaryDirectory() as folder:
        copy = _write_copy(path, dict(options or {}), keys, Path(folder))
        cfg = Config.fromfile(str(copy))
    return Config(cfg.to_dict(), cfg_text=cfg.text, filename=str(path))


def list_knobs(path: Path, keys: Collection[str]) -> dict[str, Any]:
    """List the knobs of a config file and of its bases by name, with the values that hold.

    Args:
        path: The file; one that is no Python has none.
        keys: Top-level keys that a run reads; every other name is a variable of the config.
    """
    knobs: dict[str, Any] = {}
    for base in _find_bases(path):
        knobs |= list_knobs(base, keys)
    return knobs | {name: value for name, (_, value) in _find_knobs(_parse(path), keys).items()}


def set_knobs(text: str, knobs: Mapping[str, Knob]) -> str:
    """Replace the values of knobs in the text of a config, and the comments behind them.

    Example: ``set_knobs('size = 224  # pixels', {'size': Knob(160, 'the median of your images')})`` gives
    ``'size = 160  # the median of your images'``.

    Args:
        text: The text of the config.
        knobs: Values and reasons by name.

    Raises:
        KeyError: If the text has no such knob.
    """
    lines = text.splitlines()
    places = {name: node for name, node in _assignments(ast.parse(text)) if name in knobs}
    for name in knobs.keys() - places.keys():
        raise KeyError(f'The config has no setting {name}.')
    for name, node in sorted(places.items(), key=lambda item: -item[1].lineno):
        lines[node.lineno - 1 : node.end_lineno] = _write_knob(name, knobs[name])
    return '\n'.join(lines) + '\n' * text.endswith('\n')


def _write_knob(name: str, knob: Knob) -> list[str]:
    """Write a knob as one line, or with its reason above it where the line would be too long."""
    line = f'{name} = {knob.value!r}'
    if not knob.reason:
        return [line]
    whole = f'{line}  # {knob.reason}'
    return [whole] if len(whole) <= WIDTH else [f'# {knob.reason}', line]


def _refuse_misspelled(path: Path, keys: Collection[str]) -> None:
    """Refuse a name that the file itself does not use, and that is almost that of a knob of its bases.

    Raises:
        UserError: With both names.
    """
    tree = _parse(path)
    knobs = {name for base in _find_bases(path) for name in list_knobs(base, keys)}
    used = _find_used(tree)
    for name in (name for name, _ in _assignments(tree) if name not in {*keys, *knobs, *used}):
        if near := get_close_matches(name, knobs, 1, NEAR):
            raise UserError(f'{path} sets {name}, which nothing reads; did you mean {near[0]}?')


def _replaced(path: Path, keys: Collection[str], outer: Collection[str]) -> bool:
    """Return whether a knob of this file or of one of its bases is replaced from outside of its file."""
    tree = _parse(path)
    own = _find_knobs(tree, keys)
    if any(name in outer for name in own):
        return True
    names = {*outer, *(name for name, _ in _assignments(tree))}
    return any(_replaced(base, keys, names) for base in _find_bases(path))


def _write_copy(path: Path, outer: dict[str, Any], keys: Collection[str], folder: Path) -> Path:
    """Write a config and its bases with the values from outside, each into a folder of its own; return its path."""
    tree = _parse(path)
    own = _find_knobs(tree, keys)
    edits = {node: repr(outer[name]) for name, (node, _) in own.items() if name in outer}
    values = {name: value for name, (_, value) in _find_knobs(tree, ()).items()} | outer
    derived = {name for name, _ in _assignments(tree)} - values.keys()
    copies = []
    for base in _find_bases(path):
        if refused := derived & list_knobs(base, keys).keys():
            name = min(refused)
            raise UserError(
                f'{path} sets {name} to an expression, and {base.name} derives other settings from {name} before it '
                f'can be evaluated: write a constant, as in {name} = {list_knobs(base, keys)[name]!r}.'
            )
        copies.append(_write_copy(base, values, keys, folder))
    for node in (node for name, node in _assignments(tree) if name == BASE):
        paths = iter(copies)
        edits[node.value] = repr([base if '::' in base else str(next(paths)) for base in _read_bases(node)])
    place = folder / str(len(list(folder.iterdir()))) / path.name
    place.parent.mkdir()
    place.write_text(_edit(_read_text(path), edits), encoding='utf-8')
    return place


def _edit(text: str, edits: Mapping[ast.expr, str]) -> str:
    """Replace expressions in a text, and keep the number of its lines, so that errors name the right ones."""
    lines = text.splitlines(keepends=True)
    starts = [0]
    for line in lines:
        starts.append(starts[-1] + len(line.encode()))  # the syntax tree counts bytes
    data = text.encode()
    for node, new in sorted(edits.items(), key=lambda item: -item[0].lineno):
        assert node.end_lineno is not None and node.end_col_offset is not None
        begin, end = starts[node.lineno - 1] + node.col_offset, starts[node.end_lineno - 1] + node.end_col_offset
        blank = '(' + '\n' * (node.end_lineno - node.lineno) + new + ')'
        data = data[:begin] + blank.encode() + data[end:]
    return data.decode()


def _read_text(path: Path) -> str:
    """Read a config, and fill in MMEngine's variables for its place (``{{ fileDirname }}``): a copy lies elsewhere."""
    text, place = path.read_text(encoding='utf-8'), path.resolve()
    known = {
        'fileDirname': place.parent.as_posix(),
        'fileBasename': place.name,
        'fileBasenameNoExtension': place.stem,
        'fileExtname': place.suffix,
    }
    for name, value in known.items():
        text = value.join(re.split(rf'\{{\{{\s*{name}\s*\}}\}}', text))
    return text


def _parse(path: Path) -> ast.Module:
    """Parse a config; one that is no Python, or cannot be parsed, counts as empty: MMEngine says what is wrong."""
    if path.suffix != '.py' or not path.is_file():
        return ast.Module([], [])
    try:
        return _parse_text(_read_text(path))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ast.Module([], [])


@lru_cache(KEPT)
def _parse_text(text: str) -> ast.Module:
    """Parse a text once, as each child asks its bases for their knobs; trees are read and never changed."""
    return ast.parse(text)


def _assignments(tree: ast.Module) -> Iterator[tuple[str, ast.Assign]]:
    """Find the assignments of a value to one name at the top level of a file."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            yield node.targets[0].id, node


def _find_knobs(tree: ast.Module, keys: Collection[str]) -> dict[str, tuple[ast.expr, Any]]:
    """Find the knobs of a file by name: the expression, and its value. A name assigned twice is a plain variable."""
    found = list(_assignments(tree))
    names = [name for name, _ in found]
    keys = set(keys) - _find_used(tree)
    knobs = {}
    for name, node in found:
        if name not in keys and not name.startswith('_') and names.count(name) == 1 and _is_constant(node.value):
            knobs[name] = node.value, _evaluate(node.value)
    return {name: pair for name, pair in knobs.items() if pair[1] is not _evaluate}


@lru_cache(KEPT)
def _find_used(tree: ast.Module) -> set[str]:
    """Find the names that a file reads."""
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)}


def _is_constant(node: ast.expr) -> bool:
    return all(isinstance(part, CONSTANT) for part in ast.walk(node))


def _evaluate(node: ast.expr) -> Any:
    """Evaluate an expression of constants; return this function itself if it fails, as a mark."""
    try:
        return eval(compile(ast.Expression(node), '<config>', 'eval'), {'__builtins__': {}})
    except Exception:  # such as a division by zero: MMEngine says so when it evaluates the file
        return _evaluate


def _read_bases(node: ast.Assign) -> list[str]:
    """Return what ``_base_`` lists, which MMEngine wants as constants."""
    value = _evaluate(node.value) if _is_constant(node.value) else []
    return [value] if isinstance(value, str) else [base for base in value if isinstance(base, str)]


def _find_bases(path: Path) -> list[Path]:
    """Find the files of ``_base_``; those of other packages (``mmdet::...``) are left out."""
    bases = [base for name, node in _assignments(_parse(path)) if name == BASE for base in _read_bases(node)]
    return [path.parent / base for base in bases if '::' not in base]
