"""Plain forms of what a training checkpoint holds beside tensors, so that it loads without executing code."""

from typing import Any, TypeGuard

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log

HISTORY = 'mae_toolkit_history'
PLAIN = (str, int, float, bool, type(None), torch.Tensor)


def make_plain(checkpoint: dict) -> None:
    """Replace, in place, what only unsafe loading could read back; a value without a plain form is dropped.

    Histories of scalars become tensors, arrays become tensors, NumPy scalars become numbers.
    """
    hub = checkpoint['message_hub']
    hub['log_scalars'] = {name: _history_to_plain(history) for name, history in hub['log_scalars'].items()}
    for part, where in ((hub['runtime_info'], 'message hub'), (checkpoint['meta'], 'meta')):
        for key in list(part):
            try:
                part[key] = _plain(part[key])
            except TypeError as error:
                del part[key]
                print_log(f'{key!r} in the {where} is not saved: {error}.', 'current', 30)


def to_history(value: Any) -> Any:
    """Make a history of the plain form that :func:`make_plain` gives it; other values stay as they are."""
    if not isinstance(value, dict) or HISTORY not in value:
        return value
    numbers, counts = value[HISTORY], value.get('counts')
    if not _is_series(numbers) or not _is_series(counts):
        return value
    return HistoryBuffer(numbers.numpy(), counts.numpy()) if len(numbers) == len(counts) else value


def _is_series(value: Any) -> TypeGuard[torch.Tensor]:
    return isinstance(value, torch.Tensor) and value.ndim == 1 and value.dtype == torch.float64


def _history_to_plain(history: HistoryBuffer) -> dict[str, torch.Tensor]:
    values, counts = history.data
    return {HISTORY: torch.from_numpy(np.array(values, float)), 'counts': torch.from_numpy(np.array(counts, float))}


def _plain(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, np.ndarray) and value.dtype.kind in 'biuf':
        return torch.from_numpy(value.copy())
    if isinstance(value, dict):
        return {_plain(k): _plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value)(map(_plain, value)) if type(value) in (list, tuple) else list(map(_plain, value))
    if isinstance(value, str):
        return str(value)
    if isinstance(value, PLAIN):
        return value
    raise TypeError(f'a {type(value).__name__} could not be loaded back safely')
