"""Check the arguments of a config before anything is built from them: by signature, by type and by range."""

import collections.abc
import inspect
import math
import numbers
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from typing import Any

from mae_toolkit.errors import UserError

# Packages whose annotations can be relied on; with those of other packages, only strings and None are compared.
STRICT = ('mae_toolkit', 'mmengine', 'torch')
KEPT = 4096  # functions whose signatures are read once


@dataclass(frozen=True)
class Number:
    """The numbers that a setting can have.

    ``Number(0, 1, above=True)`` accepts 0.5 and 1, and refuses 0, True, '0.5' and [0.5].

    Attributes:
        low: Least number.
        high: Greatest number.
        above: Whether the least number itself is excluded.
        below: Whether the greatest number itself is excluded.
        whole: Whether only whole numbers are accepted.
        also: Other values that are accepted, such as None.
        many: Whether a list of such numbers is accepted, too.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    below: bool = False
    whole: bool = False
    also: tuple = ()
    many: bool = False

    def accepts(self, value: object) -> bool:
        """Return whether a value is one of these."""
        if any(value is other or (type(value) is type(other) and value == other) for other in self.also):
            return True
        if self.many and isinstance(value, list | tuple) and value:
            return all(self.accepts(item) for item in value)
        if isinstance(value, bool) or not isinstance(value, int if self.whole else int | float):
            return False
        low = value > self.low if self.above else value >= self.low
        high = value < self.high if self.below else value <= self.high
        return math.isfinite(value) and low and high

    def describe(self) -> str:
        """Describe the values that are accepted, as the end of a sentence."""
        noun = 'a whole number' if self.whole else 'a number'
        low = '' if self.low == -math.inf else f' above {self.low:g}' if self.above else f' of {self.low:g} or more'
        high = '' if self.high == math.inf else f' below {self.high:g}' if self.below else f' up to {self.high:g}'
        limits = ' and'.join(part for part in (low, high) if part)
        others = ''.join(f', or {other!r}' for other in self.also)
        return f'{noun}{limits}{", or a list of such numbers" if self.many else ""}{others}'


@dataclass(frozen=True)
class Choice:
    """The few values that a setting can have.

    Attributes:
        values: These values; ``True`` and 1 differ.
    """

    values: tuple

    def accepts(self, value: object) -> bool:
        """Return whether a value is one of these."""
        return any(type(value) is type(other) and value == other for other in self.values)

    def describe(self) -> str:
        """Describe the values that are accepted, as the end of a sentence."""
        return f'one of {", ".join(map(repr, self.values))}'


@dataclass(frozen=True)
class Listed:
    """The lists of numbers that a setting can have.

    Attributes:
        item: The numbers that are accepted in the list.
        ascending: Whether each number has to be greater than the one before.
        also: Other values that are accepted, such as None.
        length: How many numbers there have to be; any number of them if None.
        equal: Whether ascending numbers may also be equal.
    """

    item: Number
    ascending: bool = False
    also: tuple = ()
    length: int | None = None
    equal: bool = False

    def accepts(self, value: object) -> bool:
        """Return whether a value is such a list."""
        if value is None and None in self.also:
            return True
        if not isinstance(value, list | tuple) or not all(self.item.accepts(item) for item in value):
            return False
        if self.length not in (None, len(value)):
            return False
        in_order = all(first < second or (self.equal and first == second) for first, second in pairwise(value))
        return in_order or not self.ascending

    def describe(self) -> str:
        """Describe the lists that are accepted, as the end of a sentence."""
        order = ', in ascending order' if self.ascending else ''
        others = ''.join(f', or {other!r}' for other in self.also)
        count = f' of {self.length}' if self.length else ''
        return f'a list{count} whose items are each {self.item.describe()}{order}{others}'


Rule = Number | Choice | Listed


def check_value(path: str, value: object, rule: Rule) -> None:
    """Refuse a value that a rule does not accept.

    Args:
        path: Where the value is in a config, such as ``train_cfg.max_epochs``.
        value: The value.
        rule: The values that are accepted.

    Raises:
        UserError: If the value is none of them.
    """
    if not rule.accepts(value):
        kind = f' is a {type(value).__name__}, and it' if isinstance(value, str) else ''
        raise UserError(f'{path}={value!r}{kind} has to be {rule.describe()}.')


def join_path(path: str, name: str) -> str:
    """Write a dotted path in a config: ``optimizer.lr``, or ``Adam: lr`` after a path that ends with a blank."""
    return f'{path}{name}' if not path or path.endswith(' ') else f'{path}.{name}'


def check_types(path: str, cls: type, given: Mapping[str, object]) -> None:
    """Refuse values of other types than a constructor takes, by its annotations or, without them, by its defaults.

    Args:
        path: Where the values are in a config, such as ``default_hooks.logger``.
        cls: The class, or a function.
        given: The arguments by name; those that the signature does not name are skipped.

    Raises:
        UserError: If a value is of another type, such as a string for a number or a number for a list.
    """
    hints, parameters = _read_signature(cls)
    package = cls.__module__.split('.')[0]
    own, strict = package == __name__.split('.')[0], package in STRICT
    for name, value in given.items():
        if name not in parameters:
            continue
        default = parameters[name].default
        if name in hints:
            loose = not strict and not isinstance(value, str | types.NoneType)
            possible = loose or has_type(value, hints[name]) or value == default
            wanted = _describe_hint(hints[name])
        else:
            possible, wanted = _match_default(value, default, own)
        if not possible:
            raise UserError(f'{join_path(path, name)}={value!r} is {_describe_type(value)}, and {wanted} is needed.')


def _read_signature(cls: Any) -> tuple[dict[str, Any], dict[str, inspect.Parameter]]:
    """Read annotations and parameters of a constructor, and of its parents as long as it passes on ``**kwargs``."""
    hints: dict[str, Any] = {}
    parameters: dict[str, inspect.Parameter] = {}
    for kind in cls.__mro__ if isinstance(cls, type) else (cls,):
        function = vars(kind).get('__init__') if isinstance(cls, type) else cls
        if function is None:
            continue
        found = list_parameters(function)
        parameters = dict(found) | parameters
        hints = _read_hints(function) | hints
        if not any(p.kind is p.VAR_KEYWORD for p in found.values()):
            break
    return {name: hint for name, hint in hints.items() if name in parameters}, parameters


@lru_cache(KEPT)
def list_parameters(function: Any) -> Mapping[str, inspect.Parameter]:
    """Return the parameters of a function by name; it is asked for them with each config that is read."""
    return inspect.signature(function).parameters


@lru_cache(KEPT)
def _read_hints(function: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(function)
    except (NameError, TypeError, AttributeError):  # names that are imported for type checkers alone
        return {}


def has_type(value: object, hint: object) -> bool:
    """Return whether a value of a config fits an annotation; annotations of other classes accept everything."""
    origin = typing.get_origin(hint)
    if origin in (typing.Union, types.UnionType):
        return any(has_type(value, choice) for choice in typing.get_args(hint))
    if origin is typing.Literal:
        return value in typing.get_args(hint)
    plain = origin or hint
    if plain is type(None):
        return value is None
    if plain is bool:
        return isinstance(value, bool | types.NoneType) or (isinstance(value, int) and value in (0, 1))
    if plain is int:
        return isinstance(value, int) and not isinstance(value, bool)
    if plain in (float, numbers.Number):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if plain is str:
        return isinstance(value, str)
    if plain is tuple and isinstance(value, list | tuple):
        items = typing.get_args(hint)
        return not items or Ellipsis in items or len(items) == len(value)
    if isinstance(value, str | int | float | types.NoneType) and isinstance(plain, type):
        lists = (list, tuple, set, collections.abc.Sequence, collections.abc.Iterable)
        if plain in lists:
            return isinstance(value, str) and str in typing.get_args(hint)
        return not issubclass(plain, Mapping)
    return True


def _match_default(value: object, default: object, own: bool) -> tuple[bool, str]:
    """Return whether a value can replace a default without an annotation, and a description of what is needed.

    Args:
        value: The value in the config.
        default: The default of the constructor.
        own: Whether the constructor is one of the toolkit, whose defaults show the type exactly.
    """
    if isinstance(default, bool):
        fits = isinstance(value, bool | int | types.NoneType) or not (own or isinstance(value, float))
        return fits and not (own and value is None), 'True or False'
    if isinstance(default, int | float):
        fits = not isinstance(value, str | bool) and not (own and isinstance(value, dict | types.NoneType))
        return fits, 'a number'
    if isinstance(default, list | tuple) and default and own:
        numeric = all(isinstance(item, int | float) for item in default)
        fits = not isinstance(value, str | bool | dict | types.NoneType)
        items = value if isinstance(value, list | tuple) else ()
        return fits and not (numeric and any(isinstance(i, str | bool) for i in items)), 'a list of numbers'
    if isinstance(default, str) and own:
        return not isinstance(value, bool | int | float), 'a name'
    return True, ''


def _describe_type(value: object) -> str:
    return 'None' if value is None else f'a {type(value).__name__}'


def _describe_hint(hint: Any) -> str:
    items = typing.get_args(hint)
    if typing.get_origin(hint) is tuple and Ellipsis not in items:
        return f'a list of {len(items)}'
    names = {int: 'a whole number', float: 'a number', numbers.Number: 'a number', bool: 'True or False', str: 'a name'}
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return ' or '.join(dict.fromkeys(_describe_hint(choice) for choice in typing.get_args(hint)))
    if hint is type(None):
        return 'None'
    if typing.get_origin(hint) is typing.Literal:
        return f'one of {", ".join(map(repr, typing.get_args(hint)))}'
    return names.get(hint, 'a dict' if (typing.get_origin(hint) or hint) is dict else 'a list')
