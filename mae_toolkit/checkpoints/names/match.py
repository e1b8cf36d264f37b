"""Whether a model has the decoder and the prediction head of a checkpoint, or others."""

import re

from mae_toolkit.errors import UserError

DECODER_PART = re.compile(r'decoder\.\w+(\.\d+\b)?')


def parts_of_another_kind(weights, own, objective):
    """Which of decoder and prediction head the model has in another kind than the weights, as prefixes of names.

    They are of one kind if at least half of the names, in either, are in both with one shape, and decoders only if
    they have the same parts (layers, blocks, by their names). Then every key counts. The head goes with its decoder.

    Raises:
        UserError: If the decoder is the same, and the model has no such objective.
    """
    objectives = dict.fromkeys(name.split('.')[1] for name in own if name.startswith('objectives.'))
    if _parts(weights) != _parts(own) or not _alike('decoder.', weights, own):
        return 'decoder.', 'objectives.'
    if any(name.startswith('decoder.') for name in weights) and objective not in objectives:
        raise UserError(f'There is no objective {objective!r}, only {", ".join(objectives)}.')
    others = tuple(f'objectives.{name}.' for name in objectives if name != objective)
    head = f'objectives.{objective}.'
    return others if _alike(head, weights, own) else (*others, head)


def _parts(names):
    return {part[0] for part in map(DECODER_PART.match, names) if part}


def _alike(prefix, weights, own):
    """Whether at least half of the names under a prefix, of either, are in both with one shape."""
    names = {name for name in (*weights, *own) if name.startswith(prefix)}
    both = (name for name in names if name in weights and name in own)
    return 2 * sum(same_but_for_ones(weights[name], own[name]) for name in both) >= len(names)


def same_but_for_ones(tensor, own):
    """Whether shapes are the same without dimensions of size one: the same numbers in the same order."""
    return own is not None and [n for n in tensor.shape if n > 1] == [n for n in own.shape if n > 1]
