"""Reading a checkpoint by a table of the names that its method uses."""

import re
from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from mae_toolkit.errors import UserError

MASK_TOKEN = 'encoder.mask_token'
Names = tuple[tuple[str, str | Callable | None], ...]


def unchanged(name, tensor, in_chans):
    """The name and the tensor as they are."""
    return name, tensor


class Method(NamedTuple):
    """What the checkpoints of a method hold.

    Attributes:
        name: Whose they are.
        signs: Regular expressions at the beginning of names, all of which are found only in this method's checkpoints.
        names: Pairs of a regular expression for a whole name and our name, with the groups of the expression; None for
            what is left, because it belongs to a decoder that we do not have, or is computed. The first that fits
            counts, and a name that fits none is an error.
        change: Function of a name, its tensor and the images' channels; it gives both as ``names`` expects them.
        whole: The decoder and the prediction head are read, too, not the encoder alone.
    """

    name: str
    signs: tuple[str, ...]
    names: Names
    change: Callable[[str, Tensor, int], tuple[str, Tensor]] = unchanged
    whole: bool = False

    @property
    def has_mask_token(self):
        """Whether the encoder has a mask token."""
        return any(ours == MASK_TOKEN for _, ours in self.names)


class Official(NamedTuple):
    """A checkpoint under our names.

    Attributes:
        weights: By our names.
        left: Their names of what is not read.
        theirs: Their names by ours.
    """

    weights: dict[str, Tensor]
    left: list[str]
    theirs: dict[str, str]


def method_of(state, methods):
    """The first of the methods whose signs a state dict bears, or None."""
    return next((m for m in methods if all(any(re.match(sign, name) for name in state) for sign in m.signs)), None)


def read(method, state, in_chans=3, objective='pixel'):
    """Put a checkpoint of a method under our names.

    Args:
        method (Method): Whose it is.
        state (dict[str, Tensor]): By the method's names.
        in_chans (int): Channels of the images.
        objective (str): Name of our objective that receives the prediction head.

    Raises:
        UserError: If the method has no such names, with them.
    """
    weights, left, origin, unknown = {}, [], {}, []
    for theirs, tensor in state.items():
        name, tensor = _change(method, theirs, tensor, in_chans)
        match, ours = next(_matches(method.names, name), (None, None))
        if match is None:
            unknown.append(theirs)
        elif ours is None:
            left.append(theirs)
        else:
            ours = (ours(match) if callable(ours) else match.expand(ours)).replace('{objective}', objective)
            if ours in weights:
                unknown.append(theirs)  # two names for one thing: which is meant?
            weights[ours], origin[ours] = tensor, theirs
    if unknown:
        raise UserError(
            f'The weights look like {method.name}, which has no {", ".join(unknown[:6])} ({len(unknown)} such keys); '
            'remove what is not of the encoder, or convert the checkpoint to the names of timm.'
        )
    return Official(weights, left, origin)


def _change(method, name, tensor, in_chans):
    """The name and the tensor as ``method.names`` expects them.

    Raises:
        UserError: If the tensor's shape is none that the method's weights have.
    """
    try:
        return method.change(name, tensor, in_chans)
    except (IndexError, TypeError, RuntimeError, ValueError) as error:
        raise UserError(
            f'The weights look like {method.name}, of which {name} cannot have the shape {tuple(tensor.shape)}.'
        ) from error


def _matches(names, name):
    for theirs, ours in names:
        if match := re.fullmatch(theirs, name):
            yield match, ours


def under(theirs, names, ours=''):
    """A table of names for modules that have one more prefix there, and one here."""

    def longer(name):
        if name is None:
            return None
        return (lambda match: ours + name(match)) if callable(name) else ours + name

    return tuple((theirs + pattern, longer(name)) for pattern, name in names)
