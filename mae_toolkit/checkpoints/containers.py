"""Finding the weights in a checkpoint, which others save under many keys."""

import re
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.errors import UserError

# Where weights lie in checkpoints: OpenMMLab's and Lightning's, MAE's and most others', SparK's, Hiera's.
CONTAINERS = ('state_dict', 'model', 'module', 'model_state')
# What DistributedDataParallel and torch.compile put before names.
WRAPPERS = ('module.', '_orig_mod.')
DEPTH = 5
AVERAGED = re.compile(r'(^|_)ema(_|$)', re.IGNORECASE)


def extract_state_dict(checkpoint: dict[str, Any]) -> dict[str, Tensor]:
    """Return the weights in a checkpoint: those under the first of CONTAINERS that it has, else its own tensors.

    Arrays of NumPy become tensors; the prefixes of DistributedDataParallel and torch.compile are taken off.
    """
    part = checkpoint
    for _ in range(DEPTH):
        inner: Any = next((dict.get(part, key) for key in CONTAINERS if _is_filled(dict.get(part, key))), None)
        if inner is None:
            break
        part = inner
    state = {name: as_tensor(value) for name, value in dict.items(part) if isinstance(name, str)}
    return _without_wrappers({name: value for name, value in state.items() if value is not None})


def refuse_empty(path: str | Path, checkpoint: dict[str, Any]) -> None:
    """Refuse a checkpoint in which :func:`extract_state_dict` finds nothing, by the names that the file has itself.

    Raises:
        UserError: Always.
    """
    parts = dict(_find_parts(checkpoint))
    if not parts:
        keys = ', '.join(repr(key) for key in list(checkpoint)[:6]) or 'none'
        raise UserError(f'{path} holds no tensors by name (its keys: {keys}): it is no checkpoint of a model.')
    places = [f'{name!r} ({count} tensors, {first!r} first)' for name, (count, first) in list(parts.items())[:4]]
    raise UserError(
        f'{path} holds no weights under {", ".join(CONTAINERS)}, nor at its top; they seem to lie under '
        f"{' and '.join(places)}: save the one that you want alone, by torch.save({{'state_dict': ...}}, ...)."
    )


def describe_average(checkpoint: dict[str, Any]) -> str | None:
    """Say which of the weights and their running average (EMA) is taken, if a checkpoint holds both; else None."""
    averages = [key for key, value in dict.items(checkpoint) if _holds_average(key, value)]
    taken = next((key for key in CONTAINERS if _is_filled(dict.get(checkpoint, key))), None)
    if not averages or taken is None:
        return None
    other = averages[0]
    meta = dict.get(checkpoint, 'meta')
    if isinstance(meta, dict) and 'mmengine_version' in meta:  # its EMAHook saves the average as the model
        return f'{taken!r}, the running average (EMA), is taken, not {other!r}, the weights as they were trained'
    return f'{taken!r} is taken, not {other!r}, the running average (EMA): to use that, save it alone'


def as_tensor(value: Any) -> Tensor | None:
    """Return a tensor, or an array of numbers as one; None for anything else."""
    if isinstance(value, Tensor):
        return value
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf' and value.dtype.itemsize <= 8:
        return torch.from_numpy(np.ascontiguousarray(value.astype(value.dtype.newbyteorder('='))))
    return None


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


def _find_parts(
    part: Any, where: str = '', depth: int = 0, seen: tuple[int, ...] = ()
) -> Iterator[tuple[str, tuple[int, str]]]:
    """Find the dicts of tensors in a checkpoint: a dotted place, and how many are there and the name of the first."""
    if depth > DEPTH or not isinstance(part, dict) or id(part) in seen:
        return
    names = [name for name, value in dict.items(part) if isinstance(name, str) and isinstance(value, Tensor)]
    if names and where:
        yield where, (len(names), names[0])
    for key, value in dict.items(part):
        if isinstance(value, dict):
            yield from _find_parts(value, f'{where}.{key}' if where else str(key), depth + 1, (*seen, id(part)))
