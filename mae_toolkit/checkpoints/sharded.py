"""Training checkpoints as folders of ``torch.distributed.checkpoint``, into which every process writes its part.

A folder ``iter_1000.dcp`` holds the tensors in shards (``__0_0.distcp``, ...) with torch's index of them, everything
else in ``training_state.pt``, and ``contents.json``, which is written last and says what a whole folder holds. Read as
one, it is the same dict that a checkpoint of one file holds. Nothing in it is loaded by executing code.
"""

import json
import warnings
import zipfile
import zlib
from collections.abc import Callable, Collection, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed import checkpoint as dcp
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.tensor import DTensor

from mae_toolkit.checkpoints.dcp_metadata import INDEX, list_extents, read_index
from mae_toolkit.checkpoints.safe_files import read_pickle
from mae_toolkit.errors import UserError
from mae_toolkit.printing import first_line

SUFFIX = '.dcp'
STATE, CONTENTS = 'training_state.pt', 'contents.json'
VERSION = 1
# In training_state.pt a tensor that is in the shards is a dict of this key and the name that it has there.
PLACEHOLDER = 'mae_toolkit_tensor'
# Parts of a checkpoint that stay whole: numbers of all kinds, and no tensors that grow with the model.
WHOLE = ('meta', 'message_hub', 'param_schedulers')
SMALL = 16  # numbers up to which a tensor stays in training_state.pt, as the counters of steps

# Gives, for a tensor's path in the checkpoint, the distributed tensor that it is to become; None for one on the CPU.
Template = Callable[[tuple[Any, ...]], Tensor | None]


def is_sharded(path: str | Path) -> bool:
    """Return whether a path is a folder of ``torch.distributed.checkpoint``, of this toolkit or another program."""
    path = Path(path)
    return path.is_dir() and (path.suffix == SUFFIX or (path / INDEX).is_file())


def split_checkpoint(checkpoint: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Take the tensors out of a checkpoint.

    Returns:
        The checkpoint with placeholders, and the tensors by the names in them: their keys, joined by dots.

    Raises:
        ValueError: If two tensors would have one name.
    """
    tensors: dict[str, Tensor] = {}

    def take(value: Any, place: tuple[Any, ...]) -> Any:
        if isinstance(value, dict):
            return {key: take(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            return type(value)(take(item, (*place, number)) for number, item in enumerate(value))
        if not isinstance(value, Tensor) or not _belongs_into_shards(value):
            return value.detach().cpu() if isinstance(value, Tensor) else value
        name = '.'.join(map(str, place))
        if name in tensors:
            raise ValueError(f'two tensors of the checkpoint would be saved under the name {name}')
        tensors[name] = value.detach()
        return {PLACEHOLDER: name}

    outline = {key: value if key in WHOLE else take(value, (key,)) for key, value in checkpoint.items()}
    return outline, tensors


def join_checkpoint(outline: Mapping[str, Any], fill: Callable[[str, tuple[Any, ...]], Any]) -> dict[str, Any]:
    """Replace the placeholders in a checkpoint.

    Args:
        outline: What :func:`split_checkpoint` returns first.
        fill: Gives what to put for a name and its path.
    """

    def put(value: Any, place: tuple[Any, ...]) -> Any:
        if isinstance(value, dict):
            if value.keys() == {PLACEHOLDER}:
                return fill(str(value[PLACEHOLDER]), place)
            return {key: put(item, (*place, key)) for key, item in value.items()}
        if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
            return type(value)(put(item, (*place, number)) for number, item in enumerate(value))
        return value

    return {key: value if key in WHOLE else put(value, (key,)) for key, value in outline.items()}


def read_outline(folder: str | Path) -> dict[str, Any]:
    """Read everything but the tensors: the checkpoint with a placeholder for each.

    Raises:
        UserError: If it is missing or damaged, or if the folder is of another program.
    """
    path = Path(folder, STATE)
    if not path.is_file():
        other = 'python -m torch.distributed.checkpoint.format_utils dcp_to_torch FOLDER weights.pth'
        raise UserError(
            f'{folder} lacks {STATE}: it is damaged, or another program wrote it; where you trust that one, make a '
            f'file of it by `{other}`, and load that.'
        )
    outline = read_pickle(path, mmap=False)
    if not isinstance(outline, dict):
        raise UserError(f'{path} holds a {type(outline).__name__}, not a dict: the folder is no training checkpoint.')
    return outline


def load_sharded(folder: str | Path, template: Template | None = None, skip: Collection[str] = ()) -> dict[str, Any]:
    """Load a folder as the dict that a checkpoint of one file holds, executing nothing from it.

    Args:
        folder: The folder; any number of processes may have written it.
        template: Gives distributed tensors into which only the parts of this process are read. Without it, all tensors
            are read as a whole to the CPU.
        skip: Parts of the checkpoint that are left out, such as ``'optimizer'``.

    Raises:
        UserError: If the folder is missing, damaged, or of another program, or if it could only be loaded by executing
            code from it.
    """
    outline = {key: value for key, value in read_outline(folder).items() if key not in skip}
    index = read_index(folder)
    tensors: dict[str, Tensor] = {}

    def allocate(name: str, place: tuple[Any, ...]) -> Tensor:
        about = index.state_dict_metadata.get(name)
        if not isinstance(about, TensorStorageMetadata):
            raise UserError(f'{folder} is damaged: its shards lack {name:.200}.')
        wanted = template(place) if template else None
        if wanted is None or wanted.shape != about.size or wanted.dtype != about.properties.dtype:
            wanted = torch.empty(about.size, dtype=about.properties.dtype)
        tensors[name] = wanted
        return wanted

    checkpoint = join_checkpoint(outline, allocate)
    _read_shards(folder, index, tensors)
    return checkpoint


def find_folder_damage(folder: str | Path, thorough: bool = True) -> str | None:
    """Compare a folder with what was written into it.

    Args:
        folder: The folder.
        thorough: Read every byte and compare its checksum; otherwise only sizes are compared.

    Returns:
        How it is damaged, as a clause; None if it is not.
    """
    folder = Path(folder)
    try:
        contents = read_contents(folder)
        for name, (size, check) in contents['files'].items():
            path = folder / name
            if not path.is_file():
                return f'{name} is missing'
            if path.stat().st_size != size:
                return f'{name} has {path.stat().st_size} bytes, and {size} were written'
            if check is not None and zlib.crc32(path.read_bytes()) != check:
                return f'{name} is not what was written'
        index = read_index(folder)
    except UserError as error:
        return str(error).rstrip('.')
    return _find_broken_part(folder, index) if thorough else None


def read_contents(folder: str | Path) -> dict[str, Any]:
    """Read the list of a folder's files, which is written last: ``files``, ``iter``, ``epoch`` and ``interim``.

    Raises:
        UserError: If it is missing or damaged.
    """
    path = Path(folder, CONTENTS)
    try:
        contents = json.loads(path.read_text())
        numbers = [contents['version'], contents['iter'], contents['epoch']]
        files = [(size, check) for size, check in contents['files'].values()]
        if not all(type(number) is int for number in [*numbers, *(size for size, _ in files)]):
            raise TypeError('a number is none')
        if contents['version'] != VERSION:
            raise ValueError(f'version {contents["version"]}, and this is {VERSION}')
        if any(Path(name).name != name for name in contents['files']):
            raise ValueError('a file of another folder')
    except FileNotFoundError:
        raise UserError(f'{folder} lacks {CONTENTS}, which is written last: it is not whole.') from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UserError(f'{path} is damaged ({first_line(error)}).') from None
    return contents


def _read_shards(folder: str | Path, index: Metadata, tensors: dict[str, Tensor]) -> None:
    """Read tensors from the shards into those given, each process for itself."""
    if not tensors:
        return
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings('ignore', message='torch.distributed is disabled')
            dcp.load(tensors, storage_reader=_IndexedReader(folder, index), no_dist=True)
    except (Exception, dcp.CheckpointException) as error:  # of a file that anyone may have made
        reason = find_folder_damage(folder) or f'{type(error).__name__}: {first_line(error)}'
        raise UserError(f'{folder} is damaged: {reason}; copy it again, or take another checkpoint.') from error


class _IndexedReader(dcp.FileSystemReader):
    """A reader of shards whose index is known already; torch's own would unpickle it."""

    def __init__(self, folder: str | Path, index: Metadata) -> None:
        super().__init__(folder)
        self.index = index

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """Return the index."""
        return self.index


def _belongs_into_shards(tensor: Tensor) -> bool:
    if isinstance(tensor, DTensor):
        return True
    dense = tensor.layout == torch.strided and not tensor.is_quantized and not tensor.is_nested
    return dense and tensor.numel() > SMALL


def _find_broken_part(folder: Path, index: Metadata) -> str | None:
    """Find the first tensor whose bytes differ from their checksums, as each is a file of ``torch.save``."""
    places = sorted((file, offset, length, name) for name, file, offset, length in list_extents(index))
    for file, offset, length, name in places:
        with open(folder / file, 'rb') as shard:
            shard.seek(offset)
            part = BytesIO(shard.read(length))
        try:
            with zipfile.ZipFile(part) as record:
                broken = record.testzip()
        except Exception as error:  # zipfile meets damage in many ways
            return f'{name} in {file} is broken ({type(error).__name__}: {first_line(error)})'
        if broken is not None:
            return f'{name} in {file} is not what was written'
    return None
