"""Embeddings that are made once: a file grows in parts, and images that it holds already are not encoded again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from tqdm import tqdm

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.files import is_embeddings, read_embeddings, write_embeddings
from mae_toolkit.evaluation.embeddings.reading import refuse_none_read
from mae_toolkit.evaluation.embeddings.table import Embeddings, join
from mae_toolkit.files import remove_partial

PART = 1024  # images after which a part is written
Advance = Callable[[int], object]  # is called with the number of images that have been encoded since the last call
Make = Callable[[list[Path], list[str], Advance], Embeddings]


def hash_weights(module: nn.Module) -> str:
    """Compute 16 letters that follow from all weights of a module, in whatever file they came, and from its settings.

    The same weights give other vectors in an architecture with, for example, another number of heads or other levels.
    """
    digest = hashlib.sha256()
    for name, part in module.named_modules():
        plain = {key: value for key, value in vars(part).items() if key[0] != '_' and _is_plain(value)}
        for changing in ('training', 'fused_attn'):  # the second follows from the machine
            plain.pop(changing, None)
        digest.update(f'{name} {type(part).__qualname__} {sorted(plain.items())}'.encode())
    for name, value in sorted(module.state_dict().items()):
        flat = value.detach().cpu().contiguous().reshape(-1)
        digest.update(f'{name} {tuple(value.shape)} {value.dtype}'.encode())
        digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def stamp(path: Path) -> str:
    """Return what changes when a file changes: its size, and the times of the last change of content and entry.

    The second time cannot be set: files that were copied or unpacked with the times of others are not taken for them.
    """
    try:
        about = path.stat()
    except OSError:  # a link to nothing, which is skipped when it is its turn
        return ''
    return f'{about.st_size}-{about.st_mtime_ns}-{about.st_ctime_ns}'


class EmbeddingCache:
    """Rows of a file of embeddings that hold for an encoder and unchanged images.

    Args:
        out: The file. What is written before it is whole lies beside it, in the hidden folder ``.<out>.parts``.
        key: What the vectors depend on beside the images; rows that were made with another key are not used.
        notes: What the file says beside them.
    """

    def __init__(self, out: str | Path, key: Mapping[str, Any], notes: Mapping[str, Any] | None = None) -> None:
        self.out, self.key, self.notes = Path(out), _as_plain(key), _as_plain(notes or {})
        self.folder = self.out.with_name(f'.{self.out.name}.parts')  # hidden: no folder of images

    def extend(self, names: Sequence[str], paths: Sequence[Path], make: Make) -> tuple[Embeddings, int]:
        """Make the vectors of the images that are not there yet, and write the file.

        Args:
            names: What the images are called.
            paths: Their files.
            make: Makes the embeddings of some of them, of given paths and names.

        Returns:
            The embeddings in the order of ``names``, and how many images were there already.

        Raises:
            UserError: If none of the images can be read.
        """
        stamps = dict(zip(names, map(stamp, paths), strict=True))
        known = [part for part in (self._read(path) for path in self._list_files()) if part is not None]
        # What could not be read is tried again: memory may have run out, or a disk may not have answered.
        found = {name for part in known for name in _select_valid(part, stamps).names}
        missing = [(name, path) for name, path in zip(names, paths, strict=True) if name not in found]
        with tqdm(total=len(missing), desc='encoding images', unit='image', delay=1) as bar:
            for begin in range(0, len(missing), PART):
                chunk = missing[begin : begin + PART]
                known.append(self._add(chunk, stamps, make, bar.update))
                bar.update(begin + len(chunk) - bar.n)  # with those that could not be read
        whole = self._assemble(names, stamps, known)
        write_embeddings(whole, self.out)
        self._remove_parts()
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
        make: Make,
        advance: Advance,
    ) -> Embeddings:
        made = make([path for _, path in chunk], [name for name, _ in chunk], advance)
        about = {'key': self.key, 'stamps': {name: stamps[name] for name, _ in chunk}}
        part = Embeddings(made.names, made.features, made.sizes, made.skipped, about)
        write_embeddings(part, self.folder / f'{len(list(self.folder.glob("*.npz"))):06d}.npz')
        return part

    def _assemble(self, names: Sequence[str], stamps: dict[str, str], parts: Sequence[Embeddings]) -> Embeddings:
        """Put the rows of all parts into the order of the names."""
        skipped = {name: reason for part in parts for name, reason in part.skipped.items() if name in stamps}
        parts = [valid for part in parts if len(valid := _select_valid(part, stamps))]
        if not parts:
            self._remove_parts()
            refuse_none_read(len(names), skipped)
        whole = join(parts)
        rows = {name: row for row, name in enumerate(whole.names)}
        skipped = {name: reason for name, reason in skipped.items() if name not in rows}
        chosen = whole.select([rows[name] for name in names if name in rows])
        # A CSV holds these alone, and the first call returns what later ones find in it.
        kept = [chosen.default] if self.out.suffix == '.csv' else list(chosen.features)
        features = {name: chosen.features[name] for name in kept}
        about = {**self.notes, 'key': self.key, 'stamps': dict(stamps)}
        return Embeddings(chosen.names, features, chosen.sizes, skipped, about)

    def _remove_parts(self) -> None:
        """Remove the parts; what else lies in their folder stays."""
        for path in self.folder.glob('*.npz'):
            if is_embeddings(path):
                path.unlink()
        if self.folder.is_dir():
            remove_partial(self.folder)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()


def _select_valid(part: Embeddings, stamps: Mapping[str, str]) -> Embeddings:
    """Return the rows of a part whose files are still there and have not changed since."""
    made = part.about.get('stamps', {})
    return part.select([row for row, name in enumerate(part.names) if name in stamps and made[name] == stamps[name]])


def _as_plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Convert values to what they are when they are read from a file."""
    return json.loads(json.dumps(dict(values)))


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, bool | int | float | str)
