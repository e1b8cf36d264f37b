"""Files of embeddings: .npz, .parquet, .csv and .pt."""

from __future__ import annotations

import csv
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
    except (ValueError, KeyError, TypeError, OSError, RuntimeError, AttributeError) as error:
        raise UserError(
            f'{path} holds no embeddings of ours ({type(error).__name__}: {error}): make it with mae-toolkit embed.'
        ) from None


def is_embeddings(path: str | Path) -> bool:
    """Return whether a file is one of embeddings that this toolkit wrote."""
    try:
        return read_embeddings(path).about.get('mark') == MARK
    except UserError:
        return False


def check_suffix(path: str | Path) -> None:
    """Refuse a name of a file that has none of the known suffixes.

    Raises:
        UserError: With the suffixes that there are.
    """
    _writer_of(Path(path))


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


def _write_npz(embeddings: Embeddings, path: Path) -> None:
    """Write arrays ``filenames``, ``embeddings`` (the default vectors), and all vectors by their names."""
    arrays: dict[str, Any] = {
        'filenames': np.array(embeddings.names),
        'embeddings': embeddings.choose(),
        'described': np.array(json.dumps(_describe(embeddings))),
    }

    def write(file: BinaryIO) -> None:
        np.savez(file, **arrays, **embeddings.features)

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
    text = io.StringIO(newline='')
    writer = csv.writer(text, lineterminator='\n')
    vectors = embeddings.choose()
    writer.writerow(['filename', *(f'embedding_{i}' for i in range(vectors.shape[1]))])
    # repr gives the fewest digits from which the same float32 is read again.
    writer.writerows([name, *map(str, row)] for name, row in zip(embeddings.names, vectors, strict=True))
    atomic_write(_beside(path), json.dumps(_describe(embeddings), indent=1) + '\n')
    atomic_write(path, text.getvalue().encode('utf-8', 'surrogateescape'))


def _read_csv(path: Path) -> Embeddings:
    rows = list(csv.reader(io.StringIO(path.read_bytes().decode('utf-8', 'surrogateescape'), newline='')))
    described = json.loads(_beside(path).read_text())
    vectors = np.array([[float(value) for value in row[1:]] for row in rows[1:]], np.float32)
    return _restore([row[0] for row in rows[1:]], {described['default']: vectors}, described)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + '.json')


def _write_parquet(embeddings: Embeddings, path: Path) -> None:
    """Write columns ``filename``, ``height``, ``width``, and a list of numbers for each level and pooling."""
    pyarrow = _import_pyarrow()
    from pyarrow import parquet

    columns: dict[str, Any] = {
        'filename': list(embeddings.names),
        'height': embeddings.sizes[:, 0],
        'width': embeddings.sizes[:, 1],
    }
    for name, values in embeddings.features.items():
        flat = pyarrow.array(np.ascontiguousarray(values, np.float32).reshape(-1))
        columns[name] = pyarrow.FixedSizeListArray.from_arrays(flat, values.shape[1])
    table = pyarrow.table(columns).replace_schema_metadata({MARK: json.dumps(_describe(embeddings))})
    atomic_write(path, lambda file: parquet.write_table(table, file))


def _read_parquet(path: Path) -> Embeddings:
    _import_pyarrow()
    from pyarrow import parquet

    table = parquet.read_table(path)
    described = json.loads(table.schema.metadata[MARK.encode()])
    names = table['filename'].to_pylist()
    features = {}
    for column in table.column_names[3:]:
        chunks = [chunk.flatten().to_numpy(zero_copy_only=False) for chunk in table[column].chunks]
        features[column] = np.concatenate(chunks).astype(np.float32).reshape(len(names), -1)
    return _restore(names, features, described)


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
_READERS: dict[str, Callable[[Path], Embeddings]] = {
    '.npz': _read_npz,
    '.parquet': _read_parquet,
    '.csv': _read_csv,
    '.pt': _read_pt,
}
