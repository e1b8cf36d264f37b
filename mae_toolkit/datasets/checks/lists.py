"""A look at a list of images: lines without a class, images that are missing or listed twice, doubtful comments."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from mae_toolkit.datasets.checks.report import SplitReport
from mae_toolkit.datasets.image_files import read_image_list
from mae_toolkit.datasets.image_io import SUFFIXES
from mae_toolkit.datasets.labeled_dataset import find_label_conflicts
from mae_toolkit.datasets.text_files import read_text_file


def check_comments(report: SplitReport, root: Path, file: Path) -> None:
    """Count comments that look like the name of an image, which is missing then."""
    kept = set(read_image_list(file, root))
    for line in map(str.strip, read_text_file(file).splitlines()):
        words = line.rsplit(maxsplit=1)
        if line.startswith('#') and line not in kept and words[0].lower().endswith(SUFFIXES):
            report.add('lines begin with # and name no file, and are left out as comments', line)
            report.left_out['lines that begin with #'] += 1


def pairs_of_list(report: SplitReport, root: Path, lines: Iterable[str]) -> list[tuple[str, str]]:
    """Split the lines into path and class; lines without a class become findings."""
    lines, pairs = list(lines), []
    for line in lines:
        parts = line.rsplit(maxsplit=1)
        if len(parts) == 2 and not (os.path.isfile(root / line) and not os.path.isfile(root / parts[0])):
            pairs.append((parts[0], parts[1]))
            continue
        commas = line.count(',') == 1 and os.path.isfile(root / line.split(',')[0])
        report.add(
            'lines of the list have no class',
            repr(line),
            total=len(lines),
            remedy='separate path and class by a blank, not a comma' if commas else 'a line is "path class"',
            fatal=True,
        )
    return pairs


def check_twice(report: SplitReport, pairs: Sequence[tuple[str, str]]) -> None:
    """Find images that a list has more than once."""
    conflicts = find_label_conflicts(pairs)
    for name, classes in conflicts.items():
        report.add(
            'images are listed under several classes',
            f'{name} under {" and ".join(classes)}',
            remedy='keep one of the lines',
            fatal=True,
        )
    counts = Counter(os.path.normpath(name) for name, _ in pairs)
    for name, count in counts.items():
        if count > 1 and name not in conflicts:
            report.add('images are listed more than once and weigh more', name, total=len(counts))


def find_missing(root: Path, names: Iterable[str]) -> list[str]:
    """Find the names under which there is no file; each folder is read once, which is fast for many names."""
    folders = defaultdict(list)
    for name in names:
        folders[os.path.dirname(name)].append(name)
    missing = set()
    for folder, inside in folders.items():
        try:
            with os.scandir(root / folder) as entries:
                there = {entry.name for entry in entries if entry.is_file()}
        except (OSError, ValueError):
            there = set()
        missing |= {name for name in inside if os.path.basename(name) not in there}
    return [name for name in dict.fromkeys(name for inside in folders.values() for name in inside) if name in missing]


def check_missing(report: SplitReport, root: Path, pairs: Sequence[tuple[str, str]]) -> set[str]:
    """Find the images of a labeled list that are not there; their names are returned."""
    missing = find_missing(root, (name for name, _ in pairs))
    texts = dict(pairs)
    for name in missing:
        is_word = len(name.split()) > 1 and os.path.isfile(root / name.split()[0])
        report.add(
            'images of the list are missing',
            f'{name!r}, class {texts[name]!r}' if ' ' in name else name,
            total=len(set(texts)),
            remedy='the class is the last word of a line: write classes without blanks'
            if is_word
            else _remedy_of_missing(root, name),
            fatal=True,
        )
    return set(missing)


def check_missing_of_pretraining(report: SplitReport, root: Path, names: Sequence[str]) -> None:
    """Find the images of a list that are not there, in whose place pretraining takes others, if they are few."""
    missing = find_missing(root, names)
    for name in missing:
        report.add(
            'images of the list are missing',
            name,
            total=len(set(names)),
            remedy=_remedy_of_missing(root, name)
            + ('' if 2 * len(missing) > len(set(names)) else '; others take their place'),
            fatal=2 * len(missing) > len(set(names)),
        )
        report.left_out['missing'] += 1


def _remedy_of_missing(root: Path, name: str) -> str:
    if '\\' in name and os.path.isfile(root / name.replace('\\', '/')):
        return 'write paths with / and not with \\'
    return f'paths are relative to {root}: mend the list or data_root'
