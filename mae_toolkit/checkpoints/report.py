"""The account of loading a checkpoint: every key of it, and of the model."""

from collections.abc import Sequence
from typing import NamedTuple


class Report(NamedTuple):
    """What became of the keys of a checkpoint.

    Attributes:
        loaded: Keys that fitted as they were.
        resized: Tables of positions that were resized, with both grids.
        new: Keys of the model that the checkpoint lacks.
        dropped: Keys of the checkpoint that the model does not build.
    """

    loaded: list[str]
    resized: list[str]
    new: list[str]
    dropped: list[str]

    @property
    def counts(self) -> str:
        """How many there are of each, as text."""
        return ', '.join(f'{len(names)} {kind}' for kind, names in self._asdict().items())

    def __str__(self) -> str:
        """One line for each kind, in which long lists are shortened."""
        return '\n'.join(f'{kind:>8}: {len(keys):4}  {shorten(keys)}' for kind, keys in self._asdict().items())


def shorten(keys: Sequence[str], most: int = 6) -> str:
    """Join the first few keys with commas, and say how many more there are."""
    first = ', '.join(f'{key:.200}' for key in keys[:most])
    return f'{first}, … ({len(keys) - most} more)' if len(keys) > most else first
