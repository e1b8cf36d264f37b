"""Reading the index of a folder of ``torch.distributed.checkpoint`` without executing code from it.

The index, ``.metadata``, is a pickle: it says which tensors there are, of which shapes and types, and which bytes of
which file hold which part of each.
"""

import pathlib
import pickle
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint import filesystem, metadata
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata

from mae_toolkit.errors import UserError
from mae_toolkit.printing import first_line

INDEX = '.metadata'
SHARD = re.compile(r'__\d+_\d+\.distcp')
CLASSES = (
    'Metadata TensorStorageMetadata BytesStorageMetadata ChunkStorageMetadata TensorProperties MetadataIndex '
    'StorageMeta _MEM_FORMAT_ENCODING'
).split()


def read_index(folder: str | Path) -> Metadata:
    """Read the index of a folder, and check that it asks for nothing outside of it.

    Raises:
        UserError: If it is missing, damaged, refers to anything but torch's own classes for it, or is of a checkpoint
            that this toolkit has not written.
    """
    path = Path(folder, INDEX)
    try:
        with open(path, 'rb') as file:
            index = _IndexUnpickler(file).load()
        _check_index(path, index)
    except UserError:
        raise
    except FileNotFoundError:
        raise UserError(f'{folder} lacks {INDEX}, without which its shards cannot be read.') from None
    except Exception as error:  # a parser of a file that anyone may have made fails in any way
        raise UserError(f'{path} is damaged ({type(error).__name__}: {first_line(error)}).') from None
    return index


def list_extents(index: Metadata) -> Iterator[tuple[str, str, int, int]]:
    """Yield for each stored part of a tensor its name, the file, and there its first byte and number of bytes."""
    for key, place in index.storage_data.items():
        yield key.fqn, place.relative_path, place.offset, place.length


class _IndexUnpickler(pickle.Unpickler):
    """An unpickler that knows the classes of which torch makes an index, and no others."""

    def find_class(self, module: str, name: str) -> Any:
        """Return a class by its name.

        Raises:
            UserError: For a name that no index needs.
        """
        allowed = _allowed()
        if (module, name) not in allowed:
            raise UserError(
                f'refused: loading a folder of torch.distributed.checkpoint whose {INDEX} names {module}.{name} would '
                'execute code from it: take another checkpoint.'
            )
        return allowed[module, name]


def _allowed() -> dict[tuple[str, str], Any]:
    names = {(metadata.__name__, name): getattr(metadata, name) for name in CLASSES}
    names[filesystem.__name__, '_StorageInfo'] = filesystem._StorageInfo
    names['torch', 'Size'] = torch.Size
    names['torch.serialization', '_get_layout'] = torch.serialization._get_layout  # looks a name up in a table
    names |= {('torch', name): value for name, value in vars(torch).items() if isinstance(value, torch.dtype)}
    for module in ('pathlib', 'pathlib._local'):  # Python 3.13 pickles paths by the second
        names[module, 'PosixPath'] = names[module, 'PurePosixPath'] = pathlib.PurePosixPath
        names[module, 'WindowsPath'] = names[module, 'PureWindowsPath'] = pathlib.PureWindowsPath
    return names


def _check_index(path: Path, index: Any) -> None:
    """Refuse an index that is not one of dense tensors in files of this folder, each of them whole.

    Raises:
        UserError: With the first thing that is wrong.
    """
    if not isinstance(index, Metadata):
        raise UserError(f'{path} is no index of torch.distributed.checkpoint, but a {type(index).__name__}.')
    held: dict[str, int] = {}
    for name, file, offset, length in list_extents(index):
        if not (isinstance(file, str) and SHARD.fullmatch(file)) or min(offset, length) < 0:
            raise UserError(f'{path} refers to {file!r:.200}, which is no shard of its folder: take another.')
        held[name] = held.get(name, 0) + length
    if any(place.transform_descriptors for place in index.storage_data.values()):
        raise UserError(f'{path} is of compressed shards, which this toolkit does not write.')
    for name, about in index.state_dict_metadata.items():
        if not isinstance(about, TensorStorageMetadata):
            raise UserError(f'{path}: {name:.200} is a pickled object, not a tensor: the folder is of another program.')
        numbers = about.size.numel()
        if sum(chunk.sizes.numel() for chunk in about.chunks) != numbers:
            raise UserError(f'{path} does not say where all parts of {name:.200} are.')
        if numbers * about.properties.dtype.itemsize > held.get(name, 0):
            raise UserError(f'{path}: {name:.200} of shape {tuple(about.size)} is larger than what its shards hold.')


def checksum(path: Path) -> int:
    """Return the CRC-32 of a small file."""
    return zlib.crc32(path.read_bytes())
