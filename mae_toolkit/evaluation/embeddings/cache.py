"""Embeddings that are made once: a file grows in parts, and images that it holds already are not encoded again."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.files import read_embeddings, write_embeddings
from mae_toolkit.evaluation.embeddings.table import Embeddings, join

PART = 1024  # images after which a part is written


def hash_weights(module: nn.Module) -> str:
    """Compute 16 letters that follow from all parameters and buffers of a module, in whatever file they came."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def stamp(path: Path) -> str:
    """Return what changes when a file changes: its size and the time of its last change."""
    try:
        about = path.stat()
    except OSError:  # a link to nothing, which is skipped when it is its turn
        return ''
    return f'{about.st_size}-{about.st_mtime_ns}'


class EmbeddingCache:
    """Rows of a file of embeddings that hold for an encoder and unchanged images.

    Args:
        out: The file. What is written before it is whole lies beside it, in ``<out>.parts``.
        key: What the vectors depend on beside the images; rows that were made with another key are not used.
    """

    def __init__(self, out: str | Path, key: Mapping[str, Any]) -> None:
        self.out, self.key = Path(out), json.loads(json.dumps(dict(key)))
        self.folder = self.out.with_name(self.out.name + '.parts')

    def extend(
        self, names: Sequence[str], paths: Sequence[Path], make: Callable[[list[Path], list[str]], Embeddings]
    ) -> tuple[Embeddings, int]:
        """Make the vectors of the images that are not there yet, and write the file.

        Args:
            names: What the images are called.
            paths: Their files.
            make: Makes the embeddings of some of them.

        Returns:
            The embeddings in the order of ``names``, and how many images were there already.

        Raises:
            UserError: If none of the images can be read.
        """
        stamps = dict(zip(names, map(stamp, paths), strict=True))
        known = [part for part in (self._read(path) for path in self._list_files()) if part is not None]
        found = {name for part in known for name in _list_valid(part, stamps)}
        missing = [(name, path) for name, path in zip(names, paths, strict=True) if name not in found]
        with tqdm(total=len(missing), desc='encoding images', unit='image', delay=1) as bar:
            for begin in range(0, len(missing), PART):
                chunk = missing[begin : begin + PART]
                known.append(self._add(chunk, stamps, make))
                bar.update(len(chunk))
        whole = self._assemble(names, stamps, known)
        write_embeddings(whole, self.out)
        shutil.rmtree(self.folder, ignore_errors=True)
        return whole, len(found)

    def _list_files(self) -> list[Path]:
        return [path for path in (self.out, *sorted(self.folder.glob('*.npz'))) if path.is_file()]

    def _read(self, path: Path) -> Embeddings | None:
        """Read a file if it is one of ours, and was made with the same key."""
        try:
            found = read_embeddings(path)
        except UserError:
            return None
        return found if found.about.get('key') == self.key else None

    def _add(
        self,
        chunk: Sequence[tuple[str, Path]],
        stamps: Mapping[str, str],
        make: Callable[[list[Path], list[str]], Embeddings],
    ) -> Embeddings:
        made = make([path for _, path in chunk], [name for name, _ in chunk])
        about = {'key': self.key, 'stamps': {name: stamps[name] for name, _ in chunk}}
        part = Embeddings(made.names, made.features, made.sizes, made.skipped, about)
        write_embeddings(part, self.folder / f'{len(list(self.folder.glob("*.npz"))):06d}.npz')
        return part

    def _assemble(self, names: Sequence[str], stamps: dict[str, str], parts: Sequence[Embeddings]) -> Embeddings:
        """Put the rows of all parts into the order of the names."""
        skipped = {
            name: part.skipped[name] for part in parts for name in _list_valid(part, stamps) if name in part.skipped
        }
        parts = [part for part in parts if len(part)]
        if not parts:
            name, reason = next(iter(skipped.items()))
            raise UserError(f'None of {len(names)} images can be read; {name}: {reason}.')
        whole = join(parts)
        valid = {name for part in parts for name in _list_valid(part, stamps)}
        rows = {name: row for row, name in enumerate(whole.names) if name in valid}
        wanted = [name for name in names if name in rows]
        chosen = whole.select([rows[name] for name in wanted])
        return Embeddings(
            chosen.names, chosen.features, chosen.sizes, skipped, {'key': self.key, 'stamps': dict(stamps)}
        )


def _list_valid(part: Embeddings, stamps: Mapping[str, str]) -> list[str]:
    """List the images of a part, skipped ones included, whose files have not changed since."""
    made = part.about.get('stamps', {})
    return [name for name in (*part.names, *part.skipped) if name in stamps and made.get(name) == stamps[name]]
