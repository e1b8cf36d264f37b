"""Read the text of a config, as checkpoints hold it, as plain values; nothing of it is executed."""

import ast
import math
import warnings

from mmengine.config import Config

MOST_CHARACTERS = 1_000_000  # shipped configs have 5,000 to 20,000


class Unknown:
    """Stands for a value that cannot be compared: an object, a computed value."""

    def __repr__(self) -> str:
        return '?'


UNKNOWN = Unknown()


def read_config_text(text: object) -> dict[str, object] | None:
    """Read the assignments of a config text, such as MMEngine writes into ``meta['cfg']`` of a checkpoint.

    Understood are literals, lists, tuples, dicts, calls of ``dict``, and names of classes, which become texts. Any
    other expression becomes :data:`UNKNOWN`; other statements are passed over.

    Returns:
        The values by name, or None if the text is none of a config.
    """
    if not isinstance(text, str) or len(text) > MOST_CHARACTERS:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter('ignore', SyntaxWarning)  # of escapes in the texts of strangers
            statements = ast.parse(text).body
        assignments = [node for node in statements if isinstance(node, ast.Assign) and len(node.targets) == 1]
        return {node.targets[0].id: _value(node.value) for node in assignments if isinstance(node.targets[0], ast.Name)}
    except (SyntaxError, ValueError, RecursionError, MemoryError):  # too deeply nested for Python's parser
        return None


def to_plain(value: object) -> object:
    """Convert a config, or a part of one, to the values that :func:`read_config_text` gives for its text."""
    if isinstance(value, Config):
        return to_plain(value.to_dict())
    if isinstance(value, dict):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(item) for item in value]
    if isinstance(value, type):
        return value.__name__ if value.__module__ == 'builtins' else f'{value.__module__}.{value.__name__}'
    return value if value is None or isinstance(value, str | bool | int | float) else UNKNOWN


def _value(node):
    """A node of the syntax tree as a plain value."""
    if isinstance(node, ast.Constant):
        return to_plain(node.value)
    if isinstance(node, ast.List | ast.Tuple):
        return [_value(item) for item in node.elts]
    if isinstance(node, ast.Dict):
        return _mapping(node)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == 'dict':
        return _dict_call(node)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
        number = _value(node.operand)
        if isinstance(number, int | float):
            return -number if isinstance(node.op, ast.USub) else number
        return UNKNOWN
    return _name(node)


def _mapping(node):
    if not all(isinstance(key, ast.Constant) for key in node.keys):
        return UNKNOWN
    return {str(key.value): _value(item) for key, item in zip(node.keys, node.values, strict=True)}


def _dict_call(node):
    parts = [_value(argument) for argument in node.args]  # dict({...}), where a key is no identifier
    if len(parts) > 1 or not all(isinstance(part, dict) for part in parts) or None in [k.arg for k in node.keywords]:
        return UNKNOWN
    return (parts[0] if parts else {}) | {keyword.arg: _value(keyword.value) for keyword in node.keywords}


def _name(node):
    """A dotted name as text; ``inf`` and ``nan`` are how Python prints these numbers."""
    parts = []
    while isinstance(node, ast.Attribute):
        parts.insert(0, node.attr)
        node = node.value
    if not isinstance(node, ast.Name):
        return UNKNOWN
    text = '.'.join([node.id, *parts])
    return {'inf': math.inf, 'nan': math.nan}.get(text, text)
