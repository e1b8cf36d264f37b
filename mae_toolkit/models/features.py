"""The features that an encoder passes to a decoder."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor


class Features(NamedTuple):
    """The levels of an encoder, from fine to coarse.

    Attributes:
        maps: Per level a map (B, C_i, H/s_i, W/s_i), zero where hidden.
        prefixes: Per level tokens (B, P, C_i) that have no place in the image (class tokens, registers), or None.
    """

    maps: tuple[Tensor, ...]
    prefixes: tuple[Tensor | None, ...]

    @classmethod
    def from_maps(cls, maps: Iterable[Tensor]) -> 'Features':
        """Return the features of an encoder that has no prefix tokens."""
        maps = tuple(maps)
        return cls(maps, (None,) * len(maps))
