"""Collect all that is wrong in the YAML of a table, to say it at once."""

from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeGuard

from mae_toolkit.errors import UserError
from mae_toolkit.registry import suggest


def raise_if_any(mistakes: Iterable[str], where: str | Path) -> None:
    """Refuse with all mistakes at once, if there are any.

    Args:
        mistakes: Sentences; each is listed once.
        where: The file that has them.

    Raises:
        UserError: With all of them.
    """
    mistakes = list(dict.fromkeys(mistakes))
    if len(mistakes) == 1:
        raise UserError(f'{where}: {mistakes[0]}')
    if mistakes:
        raise UserError('\n  - '.join([f'{where} has {len(mistakes)} mistakes:', *mistakes]))


class Mistakes:
    """Mistakes in a YAML, collected while it is read, so that all of them are reported at once.

    Attributes:
        sentences: What is wrong.
    """

    def __init__(self) -> None:
        self.sentences: list[str] = []

    def add(self, sentence: str) -> None:
        """Note a mistake."""
        self.sentences.append(sentence)

    def check_keys(self, where: str, content: dict, known: Iterable[str], needed: Iterable[str] = ()) -> None:
        """Note keys that are unknown, and those that are needed and missing or empty."""
        for key in content:
            if key not in known:
                self.add(f'{where}there is no key {key!r}{suggest(str(key), list(known))}')
        for key in needed:
            if not content.get(key):
                self.add(f'{where}the key {key!r} is missing or empty.')

    def read_items(self, content: dict, key: str) -> list[tuple[str, dict]]:
        """Read the pairs of name and dict below a key; others are mistakes."""
        value = content.get(key) or {}
        if not isinstance(value, dict):
            self.add(f'{key} are a dict by name, not {value!r}.')
            return []
        bad = [name for name, part in value.items() if not isinstance(part, dict)]
        for name in bad:
            self.add(f'{key}: {name!r} is a dict, not {value[name]!r}.')
        for name, count in Counter(str(name) for name in value).items():
            if not name.strip():
                self.add(f'{key}: a name is empty.')
            elif count > 1:
                self.add(f'{key}: the name {name!r} is given twice.')
            elif not name.isprintable():
                self.add(f'{key}: the name {name!r} holds a line break or another character that cannot be shown.')
        return [(str(name), part) for name, part in value.items() if name not in bad]

    def read_list(self, content: dict, key: str, default: list, fits: Callable[[Any], bool], what: str) -> list:
        """Read a list of different values that fit; anything else is a mistake."""
        found = content.get(key, default)
        if not isinstance(found, list) or not found or not all(map(fits, found)) or len(set(found)) < len(found):
            self.add(f'{key} is a list of {what}, each once, not {found!r}.')
            return default
        return found

    def check_dotted_keys(self, where: str, options: dict) -> None:
        """Note keys of options that are no texts, and remove them."""
        for key in [key for key in options if not isinstance(key, str)]:
            self.add(f'{where}the option {key!r} is no dotted key: put it in quotes, or mend it.')
            del options[key]


def is_number(value: object) -> TypeGuard[int | float]:
    """Return whether a value is a number; true and false are none."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_count(value: object) -> TypeGuard[int]:
    """Return whether a value is a whole number of 1 or more."""
    return type(value) is int and value >= 1
