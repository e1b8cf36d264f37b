"""Read the text of a config that a checkpoint holds as plain values, without executing it."""

import ast
import math
import warnings
from typing import Any

from mmengine.config import Config

MOST_CHARACTERS = 1_000_000  # the configs of this toolkit have 5,000 to 20,000


class Unknown:
    """Placeholder for a value that cannot be compared, such as an object or an expression."""

    def __repr__(self) -> str:
        return '?'


UNKNOWN = Unknown()


def read_config_text(text: object) -> dict[str, Any] | None:
    """Read the assignments in the text of a config, as MMEngine writes it into ``meta['cfg']`` of a checkpoint.

    Literals, lists, tuples, dicts and calls of ``dict`` are understood; names of classes become strings. Any other
    expression becomes :data:`UNKNOWN`, and other statements are ignored. Example: ``'a = dict(b=1, c=Adam)'`` gives
    ``{'a': {'b': 1, 'c': 'Adam'}}``.

    Args:
        text: The text, or whatever the checkpoint has in its place.

    Returns:
        The values by name; None if the text is not one of a config.
    """
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', SyntaxWarning)  # about escapes in the strings of others
            statements = ast.parse(text).body
        pairs = [(node.targets, node.value) for node in statements if isinstance(node, ast.Assign)]
        single = [(targets[0], value) for targets, value in pairs if len(targets) == 1]
        return {target.id: _read_value(value) for target, value in single if isinstance(target, ast.Name)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # too deeply nested for Python's parser
        return None


def to_plain(value: Any) -> Any:
    """Convert a config, or a part of one, to the values that :func:`read_config_text` reads from its text.

    Args:
        value: The config or part.
    """
    if isinstance(value, Config):
        return to_plain(value.to_dict())
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, type):
        return value.__name__ if value.__module__ == 'builtins' else f'{value.__module__}.{value.__name__}'
    return value if value is None or isinstance(value, str | bool | int | float) else UNKNOWN


def _read_value(node: ast.expr) -> Any:
    """Convert a node of the syntax tree to a plain value."""
    if isinstance(node, ast.Constant):
        return to_plain(node.value)
    if isinstance(node, ast.List | ast.Tuple):
        return [_read_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return _read_dict(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return _read_dict_call(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _read_value(node.operand)
        if isinstance(number, int | float):
            return -number if isinstance(node.op, ast.USub) else number
        return UNKNOWN
    return _read_name(node)


def _read_dict(node: ast.Dict) -> Any:
    keys = [key.value for key in node.keys if isinstance(key, ast.Constant)]
    if len(keys) < len(node.keys):
        return UNKNOWN
    return {str(key): _read_value(item) for key, item in zip(keys, node.values, strict=True)}


def _read_dict_call(node: ast.Call) -> Any:
    parts = [_read_value(argument) for argument in node.args]  # dict({...}), where a key is no identifier
    if len(parts) > 1 or not all(isinstance(part, dict) for part in parts) or None in [k.arg for k in node.keywords]:
        return UNKNOWN
    return (parts[0] if parts else {}) | {keyword.arg: _read_value(keyword.value) for keyword in node.keywords}


def _read_name(node: ast.expr) -> Any:
    """Convert a dotted name to text, and ``inf`` and ``nan``, as Python prints them, to numbers."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return UNKNOWN
    text = '.'.join([node.id, *parts])
    return {'inf': math.inf, 'nan': math.nan}.get(text, text)
