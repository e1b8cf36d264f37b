"""Files of the same content, found without reading most of them."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from mae_toolkit.datasets.checks.report import SplitReport

FILES = 20_000  # more are not compared: it would take too long on a network drive
BYTES = 2**28  # that are read at most
START = 2**14  # bytes that are compared first


def find_duplicate_files(paths: Sequence[Path]) -> list[list[Path]]:
    """Find groups of files with the same bytes, links among them; only files of the same size are opened.

    Returns:
        The groups, of two files or more. Nothing where there are more than ``FILES``, and not all of them where more
        than ``BYTES`` would have to be read.
    """
    if len(paths) > FILES:
        return []
    sizes = {}
    for path in paths:
        try:
            sizes[path] = os.path.getsize(path)
        except (OSError, ValueError):  # missing files are reported elsewhere
            continue
    groups = _regroup([list(sizes)], sizes.get)
    left = BYTES
    for most in (START, None):
        digests: dict[Path, Hashable] = {}
        for path in (path for group in groups for path in group):
            if left > 0:
                digests[path] = _digest(path, most)
                left -= min(sizes[path], most or sizes[path])
        groups = _regroup(groups, digests.get)
    return groups


def add_leaks(report: SplitReport, paths: Sequence[str], trained: Sequence[str]) -> None:
    """Report images of validation or test that are among those of training, by path or by content."""
    paths, trained = (dict.fromkeys(os.path.normpath(path) for path in some) for some in (paths, trained))
    for path in paths:
        if path in trained:
            add_leak(report, path, len(paths))
    for group in find_duplicate_files([*map(Path, [*trained, *(path for path in paths if path not in trained)])]):
        known = next((path for path in group if str(path) in trained), None)
        for path in group if known else ():
            if str(path) not in trained:
                add_leak(report, f'{path} = {known}', len(paths))


def add_leak(report: SplitReport, example: str, total: int) -> None:
    """Report one image of validation or test that is trained on."""
    report.add(
        'images are in the training data too, which makes metrics look better than they are',
        example,
        total=total,
        remedy='keep the splits apart',
    )


def _regroup(groups: Iterable[list[Path]], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Split groups by a key; drop paths whose key is None or their own alone."""
    kept = []
    for group in groups:
        parts = defaultdict(list)
        for path in group:
            parts[key(path)].append(path)
        parts.pop(None, None)
        kept += [part for part in parts.values() if len(part) > 1]
    return kept


def _digest(path: Path, most: int | None) -> bytes | None:
    try:
        with open(path, 'rb') as file:
            return hashlib.blake2b(file.read(most)).digest()
    except OSError:  # unreadable files are reported elsewhere
        return None
