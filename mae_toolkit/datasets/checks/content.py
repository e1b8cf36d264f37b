"""Search for files with the same content, without reading most of them."""

from __future__ import annotations

import hashlib
import os
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Sequence
from pathlib import Path

from mae_toolkit.datasets.checks.report import SplitReport

MAX_FILES = 20_000  # more are not compared: it would take too long on a network drive
MAX_BYTES = 2**28  # that are read at most
FIRST_BYTES = 2**14  # that are compared first


def find_duplicate_files(paths: Sequence[Path]) -> list[list[Path]]:
    """Find groups of files with the same bytes, links included; only files of the same size are opened.

    Returns:
        Groups of two or more files. Empty for more than ``MAX_FILES`` files, and incomplete if more than ``MAX_BYTES``
        would have to be read.
    """
    if len(paths) > MAX_FILES:
        return []
    sizes = {}
    for path in paths:
        try:
            sizes[path] = os.path.getsize(path)
        except (OSError, ValueError):  # missing files are reported elsewhere
            continue
    groups = _regroup([list(sizes)], sizes.get)
    left = MAX_BYTES
    for most in (FIRST_BYTES, None):
        digests: dict[Path, Hashable] = {}
        for path in (path for group in groups for path in group):
            if left > 0:
                digests[path] = _digest(path, most)
                left -= min(sizes[path], most or sizes[path])
        groups = _regroup(groups, digests.get)
    return groups


def add_leaks(report: SplitReport, paths: Sequence[str], trained: Sequence[str]) -> None:
    """Report images of validation or test that are among those of training, by path or by content.

    Args:
        report: Report of the validation or test split.
        paths: Its images.
        trained: The images of training.
    """
    own, known = (dict.fromkeys(os.path.normpath(path) for path in some) for some in (paths, trained))
    for path in own:
        if path in known:
            add_leak(report, path, len(own))
    others = [path for path in own if path not in known]
    for group in find_duplicate_files([Path(path) for path in [*known, *others]]):
        original = next((file for file in group if str(file) in known), None)
        for file in group if original else ():
            if str(file) not in known:
                add_leak(report, f'{file} = {original}', len(own))


def add_leak(report: SplitReport, example: str, total: int) -> None:
    """Report one image of validation or test that is trained on.

    Args:
        report: Report of the validation or test split.
        example: The image.
        total: Number of images of the split.
    """
    report.add(
        'images are in the training data too, which makes metrics look better than they are',
        example,
        total=total,
        remedy='keep the splits apart',
    )


def _regroup(groups: Iterable[list[Path]], key: Callable[[Path], Hashable]) -> list[list[Path]]:
    """Split groups by a key, and drop paths whose key is None or shared with no other path."""
    kept = []
    for group in groups:
        parts = defaultdict(list)
        for path in group:
            parts[key(path)].append(path)
        parts.pop(None, None)
        kept += [part for part in parts.values() if len(part) > 1]
    return kept


def _digest(path: Path, most: int | None) -> bytes | None:
    """Hash the first bytes of a file, or all; None if it cannot be read."""
    try:
        with open(path, 'rb') as file:
            return hashlib.blake2b(file.read(most)).digest()
    except OSError:  # unreadable files are reported elsewhere
        return None
