"""Finding the weights in a checkpoint, which others save under many keys."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count

# Where weights lie in checkpoints: OpenMMLab's and Lightning's, MAE's and most others', SparK's, Hiera's; tutorials'.
CONTAINERS = ('state_dict', 'model', 'module', 'model_state', 'model_state_dict', 'net', 'weights')
# What DistributedDataParallel and torch.compile put before names.
WRAPPERS = ('module.', '_orig_mod.')
DEPTH = 5
AVERAGED = re.compile(r'(^|_)ema(_|$)', re.IGNORECASE)
# Keys of what a training saves beside weights; the last is our own, see MASKED_NORMS in files.py.
TRAINING = re.compile(
    r'optim|sched|scaler|loss|callbacks|loops|message_hub|meta|config|args|rng|random|^masked_batch_norms$',
    re.IGNORECASE,
)
SMALL = 10  # a set of tensors that is so many times smaller than another is no other model


class Found(NamedTuple):
    """Weights in a checkpoint.

    Attributes:
        tensors: The tensors by name.
        place: The keys under which they lie, joined by dots; empty for the top of the file.
        prefix: What the names of those that are meant begin with, if the user has said so.
    """

    tensors: dict[str, Tensor]
    place: str = ''
    prefix: str = ''


def extract_state_dict(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights in a checkpoint: those under the first of CONTAINERS that it has, else its own tensors.

    Arrays of NumPy become tensors; the prefixes of DistributedDataParallel and torch.compile are taken off.
    """
    return _follow_containers(checkpoint).tensors


def find_weights(path: str | Path, checkpoint: dict[str, Any], part: str = '') -> Found:
    """Find the weights in a checkpoint: those that are meant, or those that lie where weights do, or the only ones.

    Args:
        path: The file, for messages.
        checkpoint: What it holds.
        part: Keys that lead to the weights, or the beginning of their names, or both, joined by dots; empty if nobody
            has said it.

    Raises:
        UserError: If there are none, with the names that the file has itself, or it is unclear which are meant,
            with the choices.
    """
    if part:
        return _find_part(path, checkpoint, part)
    usual = _follow_containers(checkpoint)
    if usual.place and usual.tensors:
        return usual
    others = _list_sets(checkpoint)
    if len(usual.tensors) >= max((len(found.tensors) for found in others), default=0):
        if not usual.tensors:
            _refuse_empty(path, checkpoint)
        return usual
    if len(others) > 1:
        raise UserError(
            f'{path} holds {len(others)} sets of weights, and nothing says which is meant: give '
            f'{_describe_sets(path, others)}.'
        )
    return others[0]


def describe_choice(checkpoint: dict[str, Any], found: Found) -> str | None:
    """Say which of several sets of weights in a checkpoint are taken, if others are not the same; else None.

    Args:
        checkpoint: The checkpoint.
        found: The weights that are taken.
    """
    if said := _describe_average(checkpoint, found.place):
        return said
    if not found.place:  # they lie at the top
        return None
    others = [other for other in _list_sets(checkpoint) if not _is_part(other.place, found.place)]
    others = [other for other in others if not _are_equal(other.tensors, found.tensors)]
    if not others:
        return None
    listed = ' or '.join(repr(other.place) for other in others)
    differ, choices = 'differs' if len(others) == 1 else 'differ', ' or '.join(f'#{other.place}' for other in others)
    return f'{found.place!r} is taken, not {listed}, which {differ}: to use other weights, add {choices} to the file'


def _is_part(place: str, other: str) -> bool:
    """Tell whether two places are the same, or one of them lies in the other."""
    return f'{place}.'.startswith(f'{other}.') or f'{other}.'.startswith(f'{place}.')


def _are_equal(some: dict[str, Tensor], others: dict[str, Tensor]) -> bool:
    return some.keys() == others.keys() and all(
        tensor.shape == others[name].shape and torch.equal(tensor, others[name]) for name, tensor in some.items()
    )


def _describe_average(checkpoint: dict[str, Any], place: str) -> str | None:
    """Say which of the weights and their running average (EMA) is taken, if a checkpoint holds both; else None."""
    averages = [key for key, value in dict.items(checkpoint) if _holds_average(key, value)]
    taken = place.split('.')[0]
    if not averages or not taken or taken in averages:
        return None
    other = averages[0]
    meta = dict.get(checkpoint, 'meta')
    if isinstance(meta, dict) and 'mmengine_version' in meta:  # its EMAHook saves the average as the model
        return f'{taken!r}, the running average (EMA), is taken, not {other!r}, the weights as they were trained'
    return f'{taken!r} is taken, not {other!r}, the running average (EMA): to use that, add #{other} to the file'


def as_tensor(value: Any) -> Tensor | None:
    """Return a tensor, or an array of numbers as one; None for anything else."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf' and value.dtype.itemsize <= 8:
        return torch.from_numpy(np.ascontiguousarray(value.astype(value.dtype.newbyteorder('='))))
    return None


def _follow_containers(part: dict[Any, Any], place: str = '') -> Found:
    """Go down as long as there is one of CONTAINERS, and return the tensors there."""
    for _ in range(DEPTH):
        inner = next(((key, dict.get(part, key)) for key in CONTAINERS if _is_filled(dict.get(part, key))), None)
        if inner is None:
            break
        part, place = inner[1] or {}, f'{place}.{inner[0]}'.lstrip('.')
    return Found(_tensors_of(part), place)


def _tensors_of(part: dict[Any, Any]) -> dict[str, Tensor]:
    state = {name: as_tensor(value) for name, value in dict.items(part) if isinstance(name, str)}
    return _without_wrappers({name: value for name, value in state.items() if value is not None})


def _find_part(path: str | Path, checkpoint: dict[str, Any], part: str) -> Found:
    """Find the weights that a user means: under keys, with a prefix, or both.

    Raises:
        UserError: If there are none, with what there is.
    """
    usual = _follow_containers(checkpoint)
    for found in (*_follow_keys(checkpoint, part.rstrip('.')), usual._replace(prefix=f'{part.rstrip(".")}.')):
        if any(name.startswith(found.prefix) for name in found.tensors):
            return found
    sets = _list_sets(checkpoint)
    choices = f'{path} has {_describe_sets(path, sets)}' if sets else 'its weights lie at the top'
    tops = list(dict.fromkeys(name.split('.')[0] for name in usual.tensors))
    names = f', with names that begin with {", ".join(tops[:6])}{", …" if len(tops) > 6 else ""}' if tops else ''
    raise UserError(f'{path} holds no weights under {part!r}: {choices}{names}.')


def _follow_keys(part: dict[Any, Any], rest: str, place: str = '') -> Iterator[Found]:
    """Follow keys as far as they go, the longest way first; what is left of them is a prefix of names."""
    for key, value in dict.items(part):
        if isinstance(key, str) and _is_filled(value) and f'{rest}.'.startswith(f'{key}.'):
            here = f'{place}.{key}'.lstrip('.')
            if key != rest:
                yield from _follow_keys(value, rest[len(key) + 1 :], here)
            found = _follow_containers(value, here)
            prefix = rest[len(key) + 1 :]
            yield found._replace(prefix=f'{prefix}.' if prefix else '')


def _list_sets(checkpoint: dict[str, Any]) -> list[Found]:
    """List the sets of weights in a checkpoint, without what a training saves beside them."""
    found = [part for part in _find_parts(checkpoint) if not TRAINING.search(part.place)]
    most = max((len(part.tensors) for part in found), default=0)
    return [part for part in found if SMALL * len(part.tensors) >= most]


def _describe_sets(path: str | Path, sets: list[Found], most: int = 6) -> str:
    """List sets of weights as a user writes them."""
    listed = [
        f'{path}#{part.place} ({format_count(len(part.tensors), "tensor")}, {next(iter(part.tensors))!r:.80} first)'
        for part in sets[:most]
    ]
    return ' or '.join([*listed, f'one of {len(sets) - most} more'] if len(sets) > most else listed)


def _refuse_empty(path: str | Path, checkpoint: dict[str, Any]) -> None:
    parts = list(_find_parts(checkpoint))
    if not parts:
        keys = ', '.join(repr(key) for key in list(checkpoint)[:6]) or 'none'
        raise UserError(f'{path} holds no tensors by name (its keys: {keys}): it is no checkpoint of a model.')
    raise UserError(
        f'{path} holds no weights under {", ".join(CONTAINERS)}, nor at its top; to take what lies elsewhere, give '
        f'{_describe_sets(path, parts)}.'
    )


def _is_filled(value: Any) -> bool:
    return isinstance(value, dict) and len(value) > 0


def _holds_average(key: Any, value: Any) -> bool:
    named = isinstance(key, str) and AVERAGED.search(key) is not None
    return named and isinstance(value, dict) and bool(extract_state_dict(value))


def _without_wrappers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take off names what wraps a whole model, in any order, and what torch.compile puts within them."""
    names = {name: re.sub(r'(^|\.)_orig_mod\.', r'\1', name) for name in state}
    while prefix := _common_prefix(names.values()):
        names = {name: new.removeprefix(prefix) for name, new in names.items()}
        names = {name: re.sub(r'(^|\.)_orig_mod\.', r'\1', new) for name, new in names.items()}
    if len(set(names.values())) < len(names):  # two tensors would have one name: leave them to be refused
        return state
    return {names[name]: value for name, value in state.items()}


def _common_prefix(names: Collection[str]) -> str | None:
    return next((wrapper for wrapper in WRAPPERS if names and all(name.startswith(wrapper) for name in names)), None)


def _find_parts(part: Any, place: str = '', depth: int = 0, seen: tuple[int, ...] = ()) -> Iterator[Found]:
    """Find the dicts of tensors in a checkpoint, but those at its top."""
    if depth > DEPTH or not isinstance(part, dict) or id(part) in seen:
        return
    if place and (tensors := _tensors_of(part)):
        yield Found(tensors, place)
    for key, value in dict.items(part):
        if isinstance(value, dict):
            yield from _find_parts(value, f'{place}.{key}' if place else str(key), depth + 1, (*seen, id(part)))
