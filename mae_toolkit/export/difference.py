"""How far the maps of two networks are apart."""

from collections.abc import Iterable
from typing import NamedTuple

from torch import Tensor


class Difference(NamedTuple):
    """The difference of two maps, and how large their values are.

    Attributes:
        greatest: The greatest absolute difference of two values.
        reach: The greatest absolute value of those that were expected.
    """

    greatest: float
    reach: float

    @property
    def relative(self) -> float:
        """The greatest difference as a share of the greatest value."""
        return self.greatest / self.reach if self.reach else self.greatest

    def __str__(self) -> str:
        return f'The greatest difference to our encoder is {self.greatest:.3g}, where values reach {self.reach:.3g}.'


def compare_maps(found: Iterable[Tensor], expected: Iterable[Tensor]) -> Difference:
    """Compare maps one by one, and return the difference of those that differ most."""
    pairs = zip(found, expected, strict=True)
    return find_greatest(Difference((a - b).abs().max().item(), b.abs().max().item()) for a, b in pairs)


def find_greatest(differences: Iterable[Difference]) -> Difference:
    """Return the greatest of several differences, each as a share of its own values."""
    return max(differences, key=lambda one: one.relative)
