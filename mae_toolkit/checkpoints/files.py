"""Reading checkpoints without executing code from them, finding them after a crash, and checking that they fit."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from mae_toolkit.checkpoints.checks import COUNTER, check_finite, check_kinds, check_layouts
from mae_toolkit.checkpoints.containers import extract_state_dict
from mae_toolkit.checkpoints.plain_values import to_history
from mae_toolkit.checkpoints.safe_files import read_pickle, read_safetensors
from mae_toolkit.checkpoints.sharded import (
    Template,
    find_folder_damage,
    is_sharded,
    load_sharded,
    read_contents,
    read_outline,
)
from mae_toolkit.checkpoints.zip_files import find_damage
from mae_toolkit.errors import UserError

__all__ = [
    'GRIDS',
    'MASKED_NORMS',
    'NAME',
    'check_fit',
    'extract_state_dict',
    'list_checkpoints',
    'load',
    'load_training',
    'newest_checkpoint',
    'read_meta',
    'to_full_precision',
]

NAME = re.compile(r'(epoch|iter)_\d+\.(pth|dcp)')
# The key in the metadata of our checkpoints of the rows and columns of their tables of positions.
GRIDS = 'position_grids'
# The key in our checkpoints of the running statistics of masked images, by their names in the encoder; those of whole
# images are among the weights.
MASKED_NORMS = 'masked_batch_norms'
# What a run needs to be resumed.
NEEDED = ('meta', 'state_dict', 'message_hub', 'optimizer')
LONGEST_PATH = 4096
SEEDS = 2**32  # as many as NumPy takes


def load(
    path: str | Path,
    mmap: bool = True,
    verify: bool = True,
    template: Template | None = None,
    skip: Collection[str] = (),
) -> dict[str, Any]:
    """Load a checkpoint of any origin, executing nothing from it.

    Args:
        path: A file of ``torch.save``, of safetensors by its suffix, or a folder of sharded tensors.
        mmap: Leave tensors in the file, where possible, until they are read; the file must stay.
        verify: Compare the checksums in the file with what it holds.
        template: For a folder: the distributed tensors to read into, see
            :func:`~mae_toolkit.checkpoints.sharded.load_sharded`.
        skip: For a folder: parts that need not be read, such as ``'optimizer'``.

    Returns:
        What the file holds, on the CPU.

    Raises:
        UserError: If the file is missing or damaged, is no checkpoint, or could only be loaded by executing code.
    """
    path = Path(path)
    if is_sharded(path):
        if verify and (damage := find_folder_damage(path)):
            raise UserError(f'{path} is damaged: {damage}; copy it again.')
        return _restore_histories(load_sharded(path, template, skip))
    if not path.is_file():
        raise UserError(f'There is no checkpoint {path}: give the path of a .pth or .safetensors file.')
    if path.suffix.lower() == '.safetensors':
        tensors, about = read_safetensors(path)
        return tensors if GRIDS not in about else {'state_dict': tensors, 'meta': {GRIDS: about[GRIDS]}}
    checkpoint = read_pickle(path, mmap)
    if not isinstance(checkpoint, dict):
        raise UserError(f'{path} holds a {type(checkpoint).__name__}, not a dict of tensors: it is no checkpoint.')
    if verify and (damage := find_damage(path)):
        raise UserError(f'{path} is damaged: {damage}; copy it again.')
    return _restore_histories(checkpoint)


def to_full_precision(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Make floating-point tensors float32, and all of them contiguous, as safetensors wants them."""
    return {k: (v.to(torch.float32) if v.is_floating_point() else v).contiguous() for k, v in state.items()}


def load_training(
    path: str | Path, verify: bool = True, template: Template | None = None, mmap: bool = True
) -> dict[str, Any]:
    """Load a checkpoint from which a run can be resumed; the arguments are those of :func:`load`.

    Raises:
        UserError: As :func:`load`, and if it holds weights alone, from which no run can be resumed.
    """
    checkpoint = load(path, mmap, verify, template)
    _check_training(path, checkpoint)
    return checkpoint


def read_meta(path: str | Path) -> dict[str, Any]:
    """Read the meta data of a training checkpoint, without its tensors where they lie beside it.

    Raises:
        UserError: As :func:`load_training`.
    """
    if not is_sharded(path):
        return load_training(path, verify=False)['meta']
    read_contents(path)  # without which it is not whole
    outline = read_outline(path)
    _check_training(path, outline)
    return outline['meta']


def list_checkpoints(folder: str | Path) -> list[Path]:
    """List the checkpoints that a training names by iterations or epochs, files and folders, by name."""
    return sorted(path for path in Path(folder).glob('*_*.*') if NAME.fullmatch(path.name))


def newest_checkpoint(work_dir: str | Path) -> Path | None:
    """Find the whole training checkpoint of most iterations in a folder.

    Only if the folder has none, it looks into the one that ``last_checkpoint`` names. Broken ones are skipped with a
    warning; of the others, the newest is taken whose every byte is as it was written.
    """
    for folder in _folders(Path(work_dir)):
        done = {}
        for path in list_checkpoints(folder):
            try:
                meta = read_meta(path)
                done[path] = (meta['iter'], meta['epoch'])
            except UserError as error:
                print_log(f'Checkpoint {path} is skipped: {error}', 'current', 30)
        for path in sorted(done, key=lambda path: (done[path], path), reverse=True):
            if not (damage := find_folder_damage(path) if is_sharded(path) else find_damage(path)):
                return path
            print_log(f'Checkpoint {path} is skipped: {damage}.', 'current', 30)
    return None


def check_fit(path: object, state: Mapping[str, Tensor], model: nn.Module) -> None:
    """Refuse weights that do not fit a model, with the first name that does not; counters of batch norms may lack.

    Raises:
        UserError: If a name is missing or unknown, a shape differs (with both shapes), or one is no dense tensor, of
            another kind of numbers, or not finite.
    """
    check_layouts(path, state)
    own = model.state_dict()
    for name, tensor in state.items():
        if name in own and own[name].shape != tensor.shape:
            raise UserError(
                f'{path} does not fit the model: {name} has shape {tuple(tensor.shape)} there and '
                f'{tuple(own[name].shape)} here; is it of this config?'
            )
    missing = [k for k in own if k not in state and not k.endswith(COUNTER)]
    unknown = [k for k in state if k not in own]
    if missing or unknown:
        which = f'lacks {missing[0]}' if missing else f'holds {unknown[0]:.200}, which the model does not build'
        first = f'; its own names begin with {unknown[0]:.200}' if missing and unknown else ''
        raise UserError(
            f'{path} does not fit the model: it {which} ({len(missing)} names missing, {len(unknown)} unknown{first}); '
            'is it of this config?'
        )
    check_kinds(path, state, own)
    check_finite(path, state)


def _check_training(path: str | Path, checkpoint: Mapping[str, Any]) -> None:
    """Refuse what no run can be resumed from."""
    lacking = [key for key in NEEDED if not _is_filled(checkpoint.get(key))]
    if lacking:
        raise UserError(f'{path} lacks {", ".join(lacking)}, so no run can go on from it; start with load_from.')
    if any(type(checkpoint['meta'].get(key)) is not int or checkpoint['meta'][key] < 0 for key in ('iter', 'epoch')):
        raise UserError(f'{path} does not say at which iteration and epoch it was saved; start from it with load_from.')
    seed = checkpoint['meta'].get('seed')
    if seed is not None and (type(seed) is not int or not 0 <= seed < SEEDS):
        raise UserError(f'{path} says that its seed was {seed!r:.50}, which is none: start from it with load_from.')


def _restore_histories(checkpoint: dict[str, Any]) -> dict[str, Any]:
    """Make the histories of logged values in a checkpoint again, in place."""
    if isinstance(hub := checkpoint.get('message_hub'), dict) and isinstance(hub.get('log_scalars'), dict):
        hub['log_scalars'] = {name: to_history(value) for name, value in hub['log_scalars'].items()}
    return checkpoint


def _is_filled(part: Any) -> bool:
    return isinstance(part, dict) and len(part) > 0


def _folders(work_dir: Path) -> tuple[Path, ...]:
    """Return the folder, and that of the checkpoint that its ``last_checkpoint`` names."""
    pointer = work_dir / 'last_checkpoint'
    named = ''
    if pointer.is_file():
        with open(pointer, errors='replace') as file:
            named = file.read(LONGEST_PATH).strip().replace('\0', '')
    other = Path(named).parent if named else work_dir
    try:
        return (work_dir, other) if other != work_dir and other.is_dir() else (work_dir,)
    except OSError:  # no name of a folder
        return (work_dir,)
