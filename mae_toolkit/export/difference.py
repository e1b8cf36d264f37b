"""How far the maps of two networks are apart."""

from typing import NamedTuple


class Difference(NamedTuple):
    """A difference, and what it is to be held against.

    Attributes:
        greatest: The greatest absolute difference of two values.
        reach: The greatest absolute value of those that were expected.
    """

    greatest: float
    reach: float

    @property
    def relative(self):
        """The greatest difference as a share of the greatest value."""
        return self.greatest / self.reach if self.reach else self.greatest

    def __str__(self):
        return f'The greatest difference to our encoder is {self.greatest:.3g}, where values reach {self.reach:.3g}.'


def difference(found, expected):
    """Of maps, one by one; of those, the one that differs most."""
    pairs = zip(found, expected, strict=True)
    each = [Difference((a - b).abs().max().item(), b.abs().max().item()) for a, b in pairs]
    return furthest(each)


def furthest(differences):
    """The greatest of several differences, each as a share of its own values."""
    return max(differences, key=lambda one: one.relative)
