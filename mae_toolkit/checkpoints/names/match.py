"""Deciding whether a model has the decoder and the prediction head of a checkpoint, or others."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor

from mae_toolkit.errors import UserError

DECODER_PART = re.compile(r'decoder\.\w+(\.\d+\b)?')


def find_other_parts(weights: Mapping[str, Tensor], own: Mapping[str, Tensor], objective: str) -> tuple[str, ...]:
    """Find out whether a model has another decoder or another prediction head than a checkpoint.

    Two are the same if at least half of the names that either has are in both with one shape, and decoders only if they
    have the same parts besides (layers and blocks, by their names). Every key of a part that is the same must fit then.
    A head is the same only if its decoder is.

    Args:
        weights: The checkpoint, under our names.
        own: The state dict of the model.
        objective: Name of the objective that receives the prediction head.

    Returns:
        Beginnings of the names of the parts that differ.

    Raises:
        UserError: If the decoder is the same, and the model has no such objective.
    """
    objectives = dict.fromkeys(name.split('.')[1] for name in own if name.startswith('objectives.'))
    if _parts(weights) != _parts(own) or not _is_alike('decoder.', weights, own):
        return 'decoder.', 'objectives.'
    if any(name.startswith('decoder.') for name in weights) and objective not in objectives:
        raise UserError(f'There is no objective {objective!r}, only {", ".join(objectives)}.')
    others = tuple(f'objectives.{name}.' for name in objectives if name != objective)
    head = f'objectives.{objective}.'
    return others if _is_alike(head, weights, own) else (*others, head)


def has_same_numbers(tensor: Tensor, own: Tensor | None) -> bool:
    """Tell whether two shapes are the same but for dimensions of size one."""
    return own is not None and [n for n in tensor.shape if n > 1] == [n for n in own.shape if n > 1]


def _parts(names: Iterable[str]) -> set[str]:
    return {part[0] for part in map(DECODER_PART.match, names) if part}


def _is_alike(prefix: str, weights: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> bool:
    """Tell whether at least half of the names under a prefix, of either, are in both with one shape."""
    names = {name for name in (*weights, *own) if name.startswith(prefix)}
    both = (name for name in names if name in weights and name in own)
    return 2 * sum(has_same_numbers(weights[name], own[name]) for name in both) >= len(names)
