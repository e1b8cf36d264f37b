"""Checkpoints: read without executing code from them, found after a crash, checked against the model."""

import argparse
import collections
import json
import re
import zipfile
from pathlib import Path
from pickle import UnpicklingError

import numpy as np
import torch
from mmengine.logging import HistoryBuffer, print_log
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file

from mae_toolkit.errors import UserError

NAME = re.compile(r'(epoch|iter)_\d+\.pth')
HISTORY = 'mae_toolkit_history'
# Where weights lie in checkpoints: OpenMMLab's and Lightning's, MAE's and most others', SparK's, Hiera's.
CONTAINERS = ('state_dict', 'model', 'module', 'model_state')
# In the meta data of our checkpoints: rows and columns of their tables of positions.
GRIDS = 'position_grids'
NEEDED = ('meta', 'state_dict', 'message_hub', 'optimizer')
PLAIN = (str, int, float, bool, type(None), torch.Tensor)


def load(path, mmap=True):
    """Load a checkpoint of anybody, executing nothing from it.

    Args:
        path (str | Path): A file of ``torch.save``, or of safetensors by its suffix.
        mmap (bool): Leave tensors in the file, where possible, until they are read; the file must stay.

    Returns:
        dict: What the file holds, on the CPU.

    Raises:
        UserError: If the file is missing, is no checkpoint, or could only be loaded by executing code from it.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'There is no checkpoint {path}: give the path of a .pth or .safetensors file.')
    checkpoint = _load_safetensors(path) if path.suffix == '.safetensors' else _load_pickle(path, mmap)
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} holds a {type(checkpoint).__name__}, not a dict of tensors: it is no checkpoint.')
    if isinstance(hub := checkpoint.get('message_hub'), dict) and isinstance(hub.get('log_scalars'), dict):
        hub['log_scalars'] = {name: _history(value) for name, value in hub['log_scalars'].items()}
    return checkpoint


def load_foreign(path):
    """Load the weights of others: a dict of tensors by name, from whatever top-level key holds it.

    Raises:
        UserError: As :func:`load`, and if the file holds no tensors.
    """
    return load_with_grids(path)[0]


def load_with_grids(path):
    """Load weights as :func:`load_foreign` does, and what the file says of their tables of positions.

    Returns:
        tuple: The tensors by name, and rows and columns of tables by name, empty if the file does not say them.
    """
    checkpoint = load(path)
    state = state_dict_of(checkpoint)
    if not state:
        raise UserError(f'{path} holds no tensors by name: it is no checkpoint of a model.')
    if damaged := _damaged_part(path):
        raise UserError(f'{path} is damaged: {damaged} in it is not what was written; copy it again.')
    check_finite(path, state)
    meta = checkpoint.get('meta')
    grids = meta.get(GRIDS) if isinstance(meta, dict) else None
    return state, {name: tuple(grid) for name, grid in grids.items()} if isinstance(grids, dict) else {}


def state_dict_of(checkpoint):
    """The weights in a checkpoint: those under the first of CONTAINERS that it has, else its own tensors."""
    for key in CONTAINERS:
        if isinstance(checkpoint.get(key), dict):
            return state_dict_of(checkpoint[key])
    state = {name: value for name, value in checkpoint.items() if isinstance(name, str) and _is_dense(value)}
    if all(name.startswith('module.') for name in state):  # saved out of DistributedDataParallel
        return {name.removeprefix('module.'): value for name, value in state.items()}
    return state


def _is_dense(value):
    return isinstance(value, torch.Tensor) and value.layout == torch.strided and not value.is_meta


def load_training(path):
    """Load a checkpoint from which a run can be resumed.

    Raises:
        UserError: As :func:`load`, and if it holds weights alone, from which no run can be resumed.
    """
    checkpoint = load(path)
    lacking = [key for key in NEEDED if not checkpoint.get(key)]
    if lacking:
        raise UserError(f'{path} lacks {", ".join(lacking)}, so no run can go on from it; start with load_from.')
    meta = checkpoint['meta']
    if not all(isinstance(meta.get(key), int) for key in ('iter', 'epoch')):
        raise UserError(f'{path} does not say at which iteration and epoch it was saved; start from it with load_from.')
    return checkpoint


def make_plain(checkpoint):
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


def newest_checkpoint(work_dir):
    """The whole training checkpoint of most iterations in a folder, or None.

    Only if the folder has none, it looks into the one that ``last_checkpoint`` names. Broken files are skipped with a
    warning; of the others, the newest is taken whose every byte is as it was written.
    """
    for folder in _folders(Path(work_dir)):
        done = {}
        for path in sorted(p for p in folder.glob('*.pth') if NAME.fullmatch(p.name)):
            try:
                meta = load_training(path)['meta']
                done[path] = (meta['iter'], meta['epoch'])
            except UserError as error:
                print_log(f'Checkpoint {path} is skipped: {error}', 'current', 30)
        for path in sorted(done, key=lambda path: (done[path], path), reverse=True):
            if not (damaged := _damaged_part(path)):
                return path
            print_log(f'Checkpoint {path} is skipped: {damaged} in it is not what was written.', 'current', 30)
    return None


def _damaged_part(path):
    """The first record of a file of ``torch.save`` whose checksum is wrong, or None."""
    if not zipfile.is_zipfile(path):
        return None
    with zipfile.ZipFile(path) as file:
        try:
            return file.testzip()
        except zipfile.BadZipFile as error:
            return str(error)


def check_finite(path, state):
    """Refuse weights that are not numbers, or infinite.

    Raises:
        UserError: With how many tensors hold such, and the first.
    """
    bad = [name for name, value in state.items() if value.is_floating_point() and not value.isfinite().all()]
    if bad:
        raise UserError(
            f'{path}: {len(bad)} of its {len(state)} tensors are not finite, the first {bad[0]}: the training had '
            'diverged; take an earlier checkpoint, and train on with a lower learning rate.'
        )


def check_fit(path, state, model):
    """Refuse weights that do not fit a model, with the first name that does not.

    Raises:
        UserError: If a name is missing or unknown, a shape differs (with both shapes), or one is not finite.
    """
    check_finite(path, state)
    own = model.state_dict()
    for name, tensor in state.items():
        if name in own and own[name].shape != tensor.shape:
            raise UserError(
                f'{path} does not fit the model: {name} has shape {tuple(tensor.shape)} there and '
                f'{tuple(own[name].shape)} here; is it of this config?'
            )
    missing, unknown = [k for k in own if k not in state], [k for k in state if k not in own]
    if missing or unknown:
        which = f'lacks {missing[0]}' if missing else f'holds {unknown[0]}, which the model does not build'
        raise UserError(
            f'{path} does not fit the model: it {which} ({len(missing)} names missing, {len(unknown)} unknown); '
            'is it of this config?'
        )


def _folders(work_dir):
    """The folder, and that of the checkpoint that its ``last_checkpoint`` names."""
    pointer = work_dir / 'last_checkpoint'
    named = pointer.read_text(errors='replace').strip().replace('\0', '') if pointer.is_file() else ''
    other = Path(named).parent if named else work_dir
    return (work_dir,) if other == work_dir else (work_dir, other)


def _load_safetensors(path):
    """The tensors, and the record of their tables of positions if there is one."""
    try:
        with safe_open(path, 'pt') as file:
            record = (file.metadata() or {}).get(GRIDS)
        tensors = load_file(path)
        return tensors if record is None else {'state_dict': tensors, 'meta': {GRIDS: json.loads(record)}}
    except SafetensorError as error:
        raise UserError(f'{path} is no complete safetensors file: {error}.') from None


def _load_pickle(path, mmap):
    try:
        with torch.serialization.safe_globals(_harmless()):
            return torch.load(path, map_location='cpu', weights_only=True, mmap=mmap and _begins_as_zip(path))
    except UnpicklingError as error:
        if named := re.search(r'GLOBAL (\S+)', str(error)):
            raise UserError(f'refused: loading {path} would execute code from it ({named[1]}).') from None
        if _begins_as_zip(path):
            raise UserError(f'refused: loading {path} might execute code from it; save its weights alone.') from None
        raise UserError(f'{path} is no checkpoint: neither torch.save nor safetensors wrote it.') from None
    except (RuntimeError, EOFError, KeyError, ValueError, AttributeError, IndexError, TypeError, OSError) as error:
        raise UserError(f'{path} is no complete checkpoint: {_first_line(error)}') from None


def _begins_as_zip(path):
    with open(path, 'rb') as file:
        return file.read(4) == b'PK\x03\x04'


def _first_line(error):
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def _harmless():
    """Classes without side effects that well-known checkpoints hold beside tensors (argparse: official MAE)."""
    core = np._core if hasattr(np, '_core') else np.core
    numpy = [core.multiarray._reconstruct, core.multiarray.scalar, np.ndarray, np.dtype]
    numpy += [type(np.dtype(kind)) for kind in ('bool', 'int32', 'int64', 'uint8', 'uint32', 'float32', 'float64')]
    histories = [HistoryBuffer, (_statistic, 'builtins.getattr')]
    # the settings that Swin and SimMIM save with their weights, as a plain dict: the only kind that torch fills
    settings = [(collections.OrderedDict, 'yacs.config.CfgNode')]
    return [argparse.Namespace, collections.defaultdict, slice, *numpy, *histories, *settings]


def _statistic(owner, name):
    """Stands for ``getattr`` while loading: MMEngine's histories refer to their own four methods by it, no more."""
    if owner is not HistoryBuffer or name not in ('min', 'max', 'mean', 'current'):
        raise UnpicklingError(f'Unsupported global: GLOBAL getattr({name})')
    return getattr(owner, name)


def _history_to_plain(history):
    values, counts = history.data
    return {HISTORY: torch.from_numpy(np.array(values, float)), 'counts': torch.from_numpy(np.array(counts, float))}


def _history(value):
    if isinstance(value, dict) and HISTORY in value:
        return HistoryBuffer(value[HISTORY].numpy(), value['counts'].numpy())
    return value


def _plain(value):
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
