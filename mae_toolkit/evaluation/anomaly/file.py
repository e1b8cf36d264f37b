"""A fitted detector in a file: safetensors, with all that it depends on as JSON in its metadata."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output, is_own_weights, weights_mark

TOOL, KEY = 'anomaly', 'detector'


def check_detector_file(path: str | Path, force: bool = False) -> None:
    """Refuse a file that a detector cannot be written into.

    Raises:
        UserError: If its name does not end in .safetensors, or it is there and no detector.
    """
    if Path(path).suffix != '.safetensors':
        raise UserError(f'{path}: a detector is written into a file ending in .safetensors.')
    check_output(path, force, (), lambda existing: is_own_weights(existing, TOOL))


def write_detector(path: str | Path, about: Mapping[str, Any], states: list[dict[str, Tensor]]) -> None:
    """Write what a detector is, as plain values, and what its methods were fitted to."""
    tensors = {f'{i}.{name}': x.cpu().contiguous() for i, state in enumerate(states) for name, x in state.items()}
    atomic_write(path, save(tensors, weights_mark(TOOL) | {KEY: json.dumps(about)}))


def read_detector(path: str | Path) -> tuple[dict[str, Any], list[dict[str, Tensor]]]:
    """Read what :func:`write_detector` has written.

    Raises:
        UserError: If there is no such file, or it is no detector.
    """
    if not Path(path).is_file():
        raise UserError(f'There is no file {path} of a detector: fit one with tools/anomaly.py fit.')
    try:
        with safe_open(path, 'pt') as file:
            about = json.loads((file.metadata() or {})[KEY])
            states: list[dict[str, Tensor]] = [{} for _ in about['branches']]
            for key in file.keys():  # noqa: SIM118 - the file is no dict
                number, _, name = key.partition('.')
                states[int(number)][name] = file.get_tensor(key)
    except (SafetensorError, KeyError, ValueError, TypeError, IndexError) as error:
        raise UserError(
            f'{path} holds no detector of anomalies ({type(error).__name__}: {error}): fit one with tools/anomaly.py '
            'fit.'
        ) from None
    return about, states
