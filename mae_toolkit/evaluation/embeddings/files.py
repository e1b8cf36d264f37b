"""Files of embeddings: .npz, .parquet, .csv and .pt."""

from __future__ import annotations

import csv
import hashlib
import io
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.table import Embeddings
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import first_line

MARK = 'mae_toolkit embeddings'  # by which a file of ours is known


def write_embeddings(embeddings: Embeddings, path: str | Path) -> None:
    """Write embeddings into one file, whole or not at all.

    Args:
        embeddings: The embeddings.
        path: Its suffix says how. ``.npz``, ``.parquet`` and ``.pt`` hold all levels and poolings, ``.csv`` the default
            ones (:attr:`Embeddings.default`), with a JSON file of the rest beside it.

    Raises:
        UserError: If the suffix is another.
    """
    path = Path(path)
    _writer_of(path)(embeddings, path)


def read_embeddings(path: str | Path) -> Embeddings:
    """Read a file that :func:`write_embeddings` wrote.

    Raises:
        UserError: If there is no such file, or it is not one of ours.
    """
    path = Path(path)
    if not path.is_file():
        raise UserError(f'There is no file {path} of embeddings.')
    reader = _READERS.get(path.suffix)
    if reader is None:
        raise UserError(f'{path}: embeddings are read from files ending in {_list_suffixes()}.')
    try:
        return reader(path)
    except UserError:
        raise
    except Exception as error:  # of zipfile, pickle, csv, Arrow: each has its own
        # What pickle says takes many lines, and advises to run the code in the file.
        reason = first_line(error) if isinstance(error, ValueError | OSError) else type(error).__name__
        raise UserError(f'{path} holds no embeddings of ours ({reason}): make it with mae-toolkit embed.') from None


def is_embeddings(path: str | Path) -> bool:
    """Return whether a file is one of embeddings that this toolkit wrote."""
    path = Path(path)
    try:
        return _DESCRIBERS[path.suffix](path)['about'].get('mark') == MARK
    except Exception:  # of zipfile, pickle, Arrow: each has its own
        return False


def check_suffix(path: str | Path) -> None:
    """Refuse a name of a file that has none of the known suffixes.

    Raises:
        UserError: With the suffixes that there are, or if the library for the suffix is not installed.
    """
    _writer_of(Path(path))
    if Path(path).suffix == '.parquet':
        _import_pyarrow()


def _writer_of(path: Path) -> Callable[[Embeddings, Path], None]:
    if path.suffix not in _WRITERS:
        raise UserError(f'{path}: embeddings are written into files ending in {_list_suffixes()}.')
    return _WRITERS[path.suffix]


def _list_suffixes() -> str:
    return ', '.join(_WRITERS)


def _describe(embeddings: Embeddings) -> dict[str, Any]:
    """Return what the file says beside names and vectors."""
    return {
        'about': {'mark': MARK} | dict(embeddings.about),
        'skipped': dict(embeddings.skipped),
        'sizes': embeddings.sizes.tolist(),
        'default': embeddings.default,
    }


def _restore(names: Sequence[str], features: dict[str, np.ndarray], described: dict[str, Any]) -> Embeddings:
    sizes = np.array(described['sizes'], dtype=int).reshape(-1, 2)
    if any(len(values) != len(names) for values in (sizes, *features.values())):
        raise ValueError('it has not one row for each name')
    return Embeddings(tuple(names), features, sizes, described['skipped'], described['about'])


def _describe_npz(path: Path) -> dict[str, Any]:
    with np.load(path) as file:
        return json.loads(str(file['described']))


def _describe_pt(path: Path) -> dict[str, Any]:
    return torch.load(path, map_location='cpu', weights_only=True, mmap=True)['described']


def _describe_parquet(path: Path) -> dict[str, Any]:
    _import_pyarrow()
    from pyarrow import parquet

    return json.loads(parquet.read_schema(path).metadata[MARK.encode()])


def _write_npz(embeddings: Embeddings, path: Path) -> None:
    """Write arrays ``filenames``, ``embeddings`` (the default vectors), and all vectors by their names."""
    arrays: dict[str, Any] = {
        'filenames': np.array(embeddings.names),
        'embeddings': embeddings.choose(),
        'described': np.array(json.dumps(_describe(embeddings))),
        **embeddings.features,
    }

    def write(file: BinaryIO) -> None:
        np.savez(file, **arrays)

    atomic_write(path, write)


def _read_npz(path: Path) -> Embeddings:
    with np.load(path) as file:
        arrays = {name: file[name] for name in file.files}
    names, described = arrays.pop('filenames').tolist(), json.loads(str(arrays.pop('described')))
    arrays.pop('embeddings')
    return _restore(names, arrays, described)


def _write_pt(embeddings: Embeddings, path: Path) -> None:
    """Write a dict of ``filenames`` and ``embeddings``, as LightlyTrain has it, and all vectors as ``features``."""
    content = {
        'filenames': list(embeddings.names),
        'embeddings': torch.from_numpy(embeddings.choose()),
        'features': {name: torch.from_numpy(values) for name, values in embeddings.features.items()},
        'described': _describe(embeddings),
    }
    atomic_write(path, lambda file: torch.save(content, file))


def _read_pt(path: Path) -> Embeddings:
    content = torch.load(path, map_location='cpu', weights_only=True)
    features = {name: values.numpy() for name, values in content['features'].items()}
    return _restore(content['filenames'], features, content['described'])


def _write_csv(embeddings: Embeddings, path: Path) -> None:
    """Write ``filename, embedding_0, embedding_1, ...``, as LightlyTrain does."""
    vectors = np.asarray(embeddings.choose(), np.float32)
    rows = [','.join(['filename', *(f'embedding_{i}' for i in range(vectors.shape[1]))])]
    # str gives the fewest digits from which the same float32 is read again.
    rows += [','.join([quote_cell(name), *map(str, row)]) for name, row in zip(embeddings.names, vectors, strict=True)]
    content = '\n'.join([*rows, '']).encode('utf-8', 'surrogateescape')
    # By the hash, a file beside which a killed run has left the description of another is known.
    described = _describe(embeddings) | {'sha256': hashlib.sha256(content).hexdigest()}
    atomic_write(description_of(path), json.dumps(described, indent=1) + '\n')
    atomic_write(path, content)


def quote_cell(name: str) -> str:
    """Write a name as a cell; csv.writer of Python 3.11 leaves a lone carriage return without quotes."""
    return '"' + name.replace('"', '""') + '"' if set(name) & set(',"\r\n') else name


def _read_csv_description(path: Path, content: bytes) -> dict[str, Any]:
    described = json.loads(description_of(path).read_text())
    if described['sha256'] != hashlib.sha256(content).hexdigest():
        raise ValueError(f'{description_of(path).name} describes another file')
    return described


def _read_csv(path: Path) -> Embeddings:
    content = path.read_bytes()
    described = _read_csv_description(path, content)
    header, *rows = csv.reader(io.StringIO(content.decode('utf-8', 'surrogateescape'), newline=''))
    vectors = np.array([[float(value) for value in row[1:]] for row in rows], np.float32)
    features = {described['default']: vectors.reshape(len(rows), len(header) - 1)}
    return _restore([row[0] for row in rows], features, described)


def description_of(path: Path) -> Path:
    """Return the JSON file beside a CSV file, which says what the CSV cannot."""
    return path.with_name(path.name + '.json')


def _write_parquet(embeddings: Embeddings, path: Path) -> None:
    r"""Write columns ``filename``, ``height``, ``width``, and a list of numbers for each level and pooling.

    Parquet holds UTF-8: of a name that is not, the column shows the bytes as ``\xe9``, and the description the name.
    """
    pyarrow = _import_pyarrow()
    from pyarrow import parquet

    described, shown = _describe(embeddings), [_as_utf8(name) for name in embeddings.names]
    if shown != list(embeddings.names):
        described['names'] = list(embeddings.names)
    columns: dict[str, Any] = {
        'filename': pyarrow.array(shown, pyarrow.string()),
        'height': embeddings.sizes[:, 0],
        'width': embeddings.sizes[:, 1],
    }
    for name, values in embeddings.features.items():
        flat = pyarrow.array(np.ascontiguousarray(values, np.float32).reshape(-1))
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
    table = pyarrow.table(columns).replace_schema_metadata({MARK: json.dumps(described)})
    atomic_write(path, lambda file: parquet.write_table(table, file))


def _read_parquet(path: Path) -> Embeddings:
    _import_pyarrow()
    from pyarrow import parquet

    table = parquet.read_table(path)
    described = json.loads(table.schema.metadata[MARK.encode()])
    names = described.get('names') or table['filename'].to_pylist()
    features = {}
    for column in table.column_names[3:]:
        width = table.schema.field(column).type.list_size
        flat = table[column].combine_chunks().flatten().to_numpy(zero_copy_only=False)
        features[column] = flat.astype(np.float32).reshape(len(names), width)
    return _restore(names, features, described)


def _as_utf8(name: str) -> str:
    return name.encode('utf-8', 'surrogateescape').decode('utf-8', 'backslashreplace')


def _import_pyarrow() -> Any:
    try:
        import pyarrow
    except ModuleNotFoundError:
        raise UserError(
            "Parquet is written by pyarrow: pip install -e '.[embed]', or choose .npz, .csv or .pt."
        ) from None
    return pyarrow


_WRITERS: dict[str, Callable[[Embeddings, Path], None]] = {
    '.npz': _write_npz,
    '.parquet': _write_parquet,
    '.csv': _write_csv,
    '.pt': _write_pt,
}
# What a file says beside its vectors, which are not read.
_DESCRIBERS: dict[str, Callable[[Path], dict[str, Any]]] = {
    '.npz': _describe_npz,
    '.parquet': _describe_parquet,
    '.csv': lambda path: _read_csv_description(path, path.read_bytes()),
    '.pt': _describe_pt,
}
_READERS: dict[str, Callable[[Path], Embeddings]] = {
    '.npz': _read_npz,
    '.parquet': _read_parquet,
    '.csv': _read_csv,
    '.pt': _read_pt,
}
