"""Read JSON files of our own back as dataclasses, and say what is damaged in one before anything uses it."""

import json
from collections.abc import Callable, Mapping
from dataclasses import MISSING, Field, field, fields, is_dataclass
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Self, TypeVar, Union, get_args, get_origin, get_type_hints

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

KEY = 'key'  # in the metadata of a field: its name in the file, where that is another one
T = TypeVar('T')


class Record:
    """A dataclass that is kept as a JSON file; a subclass is decorated with :func:`dataclasses.dataclass`."""

    @classmethod
    def from_dict(cls, content: object) -> Self:
        """Make a record of plain values; see :func:`parse`.

        Raises:
            ValueError: If something in it is missing or of another type.
        """
        return parse(content, cls)

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain values, by the keys of its file."""
        return to_plain(self)

    @classmethod
    def read(cls, path: str | Path) -> Self | None:
        """Read a record from its file; see :func:`read_record`."""
        return read_record(path, cls.from_dict)

    def write(self, path: str | Path) -> None:
        """Write the record as a JSON file, whole or not at all."""
        atomic_write(path, json.dumps(self.to_dict(), indent=2) + '\n')


def renamed_field(key: str, **options: Any) -> Any:
    """Make a field of a dataclass that has another name in its file.

    Args:
        key: The name in the file.
        **options: Those of :func:`dataclasses.field`.
    """
    return field(metadata={KEY: key}, **options)


def read_record(path: str | Path, convert: Callable[[object], T]) -> T | None:
    """Read a JSON file; None where there is no such file, or it holds ``null``.

    Args:
        path: The file.
        convert: Makes of its content what is returned, or raises a ValueError that says what is damaged.

    Raises:
        UserError: If the file is damaged.
    """
    try:
        content = json.loads(Path(path).read_text())
        return None if content is None else convert(content)
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError) as error:
        raise damaged_record(path, str(error)) from None


def damaged_record(path: str | Path, damage: str) -> UserError:
    """Make the error for a file of ours that somebody or something has changed."""
    return UserError(f'{path} is damaged ({damage}): delete it, and what is then missing is done again.')


def parse(content: object, kind: Any, name: str = 'it') -> Any:
    """Convert plain values, as JSON has them, to a type.

    A dataclass comes from a dict with its fields by name. Keys that it does not have are ignored, so that files of
    other versions can be read; fields with a default may be missing.

    >>> parse({'path': 'a.pth', 'sha256': 5}, Weights)
    ValueError: sha256 is 5

    Args:
        content: Plain values.
        kind: A dataclass, a plain type, ``Literal``, ``dict[str, ...]``, ``list[...]``, ``tuple[...]``, a union of
            those, or ``Any``.
        name: What the content is called in errors.

    Raises:
        ValueError: If a value has another type; it says which.
    """
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is Any:
        return content
    if origin in (Union, UnionType):
        return _parse_union(content, arguments, name)
    if is_dataclass(kind):
        return _parse_dataclass(content, kind, name)
    if origin is Literal:
        if content not in arguments:
            raise _wrong(content, name)
        return content
    if origin is dict:
        checked = _checked(content, dict, name)
        return {key: parse(value, arguments[1], str(key)) for key, value in checked.items()}
    if origin in (list, tuple):
        return _parse_items(_checked(content, list, name), origin, arguments, name)
    return _checked(content, kind, name)


def to_plain(value: Any) -> Any:
    """Convert dataclasses, and what holds them, to dicts by the keys that their files have."""
    if is_dataclass(value):
        return {_key_of(one): to_plain(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, Mapping):
        return {key: to_plain(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [to_plain(part) for part in value]
    return value


def _parse_union(content, kinds, name):
    problems = []
    for kind in kinds:
        try:
            return parse(content, kind, name)
        except ValueError as problem:
            problems.append(problem)
    raise problems[0]


def _parse_dataclass(content, kind, name):
    checked, hints, found = _checked(content, dict, name), _hints(kind), {}
    for one in fields(kind):
        key = _key_of(one)
        if key in checked:
            found[one.name] = parse(checked[key], hints[one.name], key)
        elif one.default is MISSING and one.default_factory is MISSING:
            raise ValueError(f'{name} lacks {key!r}')
    return kind(**found)


def _parse_items(items, origin, kinds, name):
    if origin is list or kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(items)
    if len(kinds) != len(items):
        raise _wrong(items, name)
    pairs = zip(items, kinds, strict=True)
    return origin(parse(item, kind, f'{name}[{i}]') for i, (item, kind) in enumerate(pairs))


def _checked(content, kind, name):
    is_bool = isinstance(content, bool) and kind in (int, float)  # which Python takes for a number
    if is_bool or not isinstance(content, int | float if kind is float else kind):
        raise _wrong(content, name)
    return content


def _wrong(content, name):
    text = repr(content)
    return ValueError(f'{name} is {text if len(text) <= 40 else f"{text[:39]}…"}')


def _key_of(one: Field) -> str:
    return one.metadata.get(KEY, one.name)


@cache
def _hints(kind):
    return get_type_hints(kind)
