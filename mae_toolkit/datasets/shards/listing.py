"""Which shards a dataset consists of: patterns, lists, folders, and the lengths in ``_info.json``."""

from __future__ import annotations

import glob
import json
import os
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path

from mae_toolkit.errors import UserError
from mae_toolkit.printing import some

INFO = ('_info.json', 'info.json')
TAR, LMDB = '.tar', ('.lmdb', '.mdb')
BRACES = re.compile(r'\{([^{}]*)\}')
Read = Callable[[str], bytes | None]


@dataclass(frozen=True)
class Shard:
    """A shard, which may be on another machine.

    Attributes:
        url: A path, or a URL such as ``https://host/train-0000.tar``.
        length: Number of its images as ``_info.json`` promises it; None if nothing does.
    """

    url: str
    length: int | None = None

    @property
    def name(self) -> str:
        """Return the last part of the URL."""
        return self.url.rstrip('/').rpartition('/')[2]

    @property
    def is_lmdb(self) -> bool:
        """Return whether it is an LMDB; otherwise it is a tar."""
        return self.name.endswith(LMDB) or (not self.is_remote and os.path.isfile(os.path.join(self.url, 'data.mdb')))

    @property
    def is_remote(self) -> bool:
        """Return whether it is not a file of this machine."""
        return '://' in self.url


def expand_braces(pattern: str) -> list[str]:
    """Expand ``{0000..0127}`` and ``{a,b}``, as a shell does: ``'s-{08..10}.tar'`` is s-08.tar, s-09.tar, s-10.tar.

    Raises:
        UserError: If a brace is not closed, or its range runs backwards.
    """
    parts = BRACES.split(pattern)
    if any('{' in part or '}' in part for part in parts):
        raise UserError(f'{pattern} has a brace without its other half: write train-{{0000..0127}}.tar.')
    choices = [_expand_brace(part, pattern) if i % 2 else [part] for i, part in enumerate(parts)]
    return [''.join(chosen) for chosen in product(*choices)]


def list_shards(urls: str | Path | Sequence[str | Path], split: str | None, read: Read) -> list[Shard]:
    """List the shards that paths, URLs, patterns and folders name, in the order in which they are named.

    Args:
        urls: One or several: a shard; a pattern with braces; a local one with ``*``; a local folder with shards; or
            a file or URL that ends in ``_info.json``. Several may also stand in one string, with ``::`` in between.
        split: Split of ``_info.json``, such as ``'train'``, whose shards are taken.
        read: Function that returns the content of a path or URL; None if there is none.

    Raises:
        UserError: If nothing matches, or a shard is named twice.
    """
    given = list(urls) if isinstance(urls, list | tuple) else [urls]
    if not given or not all(isinstance(url, str | Path) and str(url) for url in given):
        raise UserError(f'urls={urls!r} must be the path or URL of shards, or a list of them.')
    found: list[Shard] = []
    for url in (part for text in given for part in str(text).split('::')):
        for expanded in expand_braces(url):
            found += _list_one(expanded.removeprefix('file://'), split, read)
    twice = [url for url, count in Counter(shard.url for shard in found).items() if count > 1]
    if twice:
        raise UserError(f'Shards are named twice, such as {some(twice, 1)}: name each once.')
    return _add_lengths(found, read)


def _expand_brace(text: str, pattern: str) -> list[str]:
    if match := re.fullmatch(r'(\d+)\.\.(\d+)', text):
        first, last = match[1], match[2]
        if int(first) > int(last):
            raise UserError(f'{pattern}: the range {{{text}}} runs backwards; write {{{last}..{first}}}.')
        return [str(number).zfill(len(first)) for number in range(int(first), int(last) + 1)]
    return text.split(',')


def _list_one(url: str, split: str | None, read: Read) -> list[Shard]:
    """List the shards that a path or URL without braces names."""
    if url.endswith(INFO):
        return _list_info(url, split, read)
    if '://' in url:
        if url.endswith('/') or not url.endswith((TAR, *LMDB)):
            return _list_info(f'{url.rstrip("/")}/{INFO[0]}', split, read)
        return [Shard(url)]
    if os.path.isfile(os.path.join(url, 'data.mdb')):
        return [Shard(url)]
    if os.path.isdir(url):
        return _list_folder(url, split, read)
    matches = sorted(glob.glob(url, recursive=True)) if glob.has_magic(url) and not os.path.exists(url) else [url]
    if not matches or not os.path.exists(matches[0]):
        raise UserError(f'There is no shard {url}: name tars or LMDBs, such as train-{{0000..0127}}.tar.')
    return [Shard(match) for match in matches]


def _list_folder(folder: str, split: str | None, read: Read) -> list[Shard]:
    """List the shards of a local folder: those that its ``_info.json`` names, or all."""
    for name in INFO:
        if os.path.isfile(os.path.join(folder, name)):
            return _list_info(os.path.join(folder, name), split, read)
    names = sorted(name for name in os.listdir(folder) if name.endswith((TAR, *LMDB)) and not name.startswith('.'))
    if not names:
        raise UserError(f'{folder} holds no shards, which end in .tar or .lmdb: name their folder.')
    return [Shard(os.path.join(folder, name)) for name in names]


def _list_info(url: str, split: str | None, read: Read) -> list[Shard]:
    """List the shards of a split that an ``_info.json`` names."""
    content = read(url)
    if content is None:
        raise UserError(
            f'There is no {url}: name the shards themselves, such as {url.rpartition("/")[0]}/{{00..99}}.tar.'
        )
    splits = dict(_read_splits(content, url))
    if not splits:
        raise UserError(f'{url} names no shards, as it has no splits: name the shards themselves.')
    if split is None and len(splits) > 1:
        raise UserError(f'{url} has the splits {some(list(splits))}: choose one with split=....')
    if split is not None and split not in splits:
        raise UserError(f'{url} has no split {split!r}; it has {some(list(splits))}.')
    lengths = splits[split] if split is not None else next(iter(splits.values()))
    base = url.rpartition('/')[0]
    return [Shard(f'{base}/{name}' if base else name, length) for name, length in lengths.items()]


def _read_splits(content: bytes, url: str) -> Iterator[tuple[str, dict[str, int]]]:
    """Yield the splits of an ``_info.json`` as timm's sets have it, each with the length of its shards by name."""
    try:
        splits = json.loads(content)['splits']
        for name, about in splits.items():
            filenames, lengths = about['filenames'], about['shard_lengths']
            yield name, {str(file): int(length) for file, length in zip(filenames, lengths, strict=True)}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(f'{url} does not say splits, filenames and shard_lengths ({error}): name the shards.') from None


def _add_lengths(shards: list[Shard], read: Read) -> list[Shard]:
    """Add the lengths of remote shards from the ``_info.json`` beside them."""
    known: dict[str, Mapping[str, int]] = {}
    found = []
    for shard in shards:
        base = shard.url.rpartition('/')[0]
        if shard.is_remote and shard.length is None:
            if base not in known:
                content = next(filter(None, (read(f'{base}/{name}') for name in INFO)), None)
                splits = {} if content is None else dict(_read_splits(content, f'{base}/{INFO[0]}'))
                known[base] = {file: length for lengths in splits.values() for file, length in lengths.items()}
            shard = replace(shard, length=known[base].get(shard.name))
        found.append(shard)
    return found
