"""Reading files of ``torch.save`` and safetensors without executing code from them."""

import argparse
import collections
import importlib
import json
import re
from pathlib import Path, PurePosixPath, PureWindowsPath
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from mae_toolkit.checkpoints.zip_files import begins_as_zip, find_damage, find_reason, is_compressed
from mae_toolkit.errors import UserError
from mae_toolkit.printing import first_line

NUMBERS = (
    'bool int8 int16 int32 int64 uint8 uint16 uint32 uint64 float16 float32 float64 longdouble complex64 complex128'
).split()


def read_pickle(path: str | Path, mmap: bool = True) -> Any:
    """Read a file of ``torch.save``, executing nothing from it.

    Args:
        path: The file.
        mmap: Leave tensors in the file, where possible, until they are read.

    Raises:
        UserError: If the file is damaged, is no such file, or could only be read by executing code from it.
    """
    if reason := find_reason(path):
        raise UserError(f'{path} is no checkpoint: {reason}.')
    zipped = begins_as_zip(path)
    try:
        with torch.serialization.safe_globals(harmless_classes()):
            mmap = mmap and zipped and not is_compressed(path)
            return torch.load(path, map_location='cpu', weights_only=True, mmap=mmap)
    except UnpicklingError as error:
        if damage := find_damage(path):
            raise UserError(f'{path} is no complete checkpoint: {damage}.') from None
        raise refusal(path, error, zipped) from None
    except Exception as error:  # a parser of a file that anyone may have made fails in any way
        said = f'{type(error).__name__}: {first_line(error)}'  # of a KeyError, a bare number
        raise UserError(f'{path} is no checkpoint, or a damaged one ({said}).') from None


def read_safetensors(path: str | Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a file of safetensors: its tensors by name, and its metadata with JSON decoded.

    Raises:
        UserError: If the file is damaged, or no such file.
    """
    try:
        with safe_open(path, 'pt') as file:
            metadata = file.metadata() or {}
        tensors = load_file(path)
    except SafetensorError as error:
        raise UserError(f'{path} is no complete safetensors file: {error}.') from None
    except (RuntimeError, ValueError, TypeError, KeyError, AttributeError, MemoryError) as error:
        raise UserError(f'{path} cannot be read as safetensors: {first_line(error)}') from None
    return tensors, {key: _decode(value) for key, value in metadata.items()}


def refusal(path: str | Path, error: UnpicklingError, is_checkpoint: bool = True) -> UserError:
    """Make the sentence that says why a file of pickled objects is not read."""
    if 'nested' in str(error) or 'DTensor' in str(error):
        return UserError(f'{path} holds nested or distributed tensors: save its weights alone, as dense tensors.')
    if named := re.search(r'GLOBAL (\S+)', str(error)):
        remedy = 'save the weights alone, by torch.save(model.state_dict(), ...), where you trust the file'
        return UserError(f'refused: loading {path} would execute code from it ({named[1]}): {remedy}.')
    if is_checkpoint:
        return UserError(f'refused: loading {path} might execute code from it; save its weights alone.')
    return UserError(f'{path} is no checkpoint: neither torch.save nor safetensors wrote it.')


def harmless_classes() -> list[Any]:
    """List the classes without side effects that well-known checkpoints hold beside tensors."""
    multiarray = importlib.import_module('numpy._core.multiarray')  # NumPy 1.26 has it, too, once it is imported
    numpy: list[Any] = [np.ndarray, np.dtype, *{type(np.dtype(kind)) for kind in NUMBERS}]
    for function in (multiarray._reconstruct, multiarray.scalar):  # under the names of numpy 1 and 2
        numpy += [(function, f'numpy.{name}.multiarray.{function.__name__}') for name in ('core', '_core')]
    histories = [HistoryBuffer, (_statistic, 'builtins.getattr')]
    # The settings that Swin and SimMIM save with their weights become a plain dict, the only kind that torch fills.
    settings = [(collections.OrderedDict, 'yacs.config.CfgNode')]
    # Paths become pure paths: their text, without a way to the disk.
    kinds = {PurePosixPath: ('PosixPath', 'PurePosixPath'), PureWindowsPath: ('WindowsPath', 'PureWindowsPath')}
    modules = ('pathlib', 'pathlib._local')  # Python 3.13 pickles them by the second
    paths = [(kind, f'{module}.{name}') for kind, names in kinds.items() for name in names for module in modules]
    # The settings of the official MAE are an argparse.Namespace.
    return [argparse.Namespace, collections.defaultdict, slice, *numpy, *histories, *settings, *paths]


def _statistic(owner: Any, name: str) -> Any:
    """Stand in for ``getattr`` while loading: MMEngine's histories refer to their own four methods by it.

    Raises:
        UnpicklingError: For anything else.
    """
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise UnpicklingError(f'Unsupported global: GLOBAL getattr({name})')
    return getattr(owner, name)


def _decode(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        return text
