"""Check of a list of images: lines without a class, missing or repeated images, and comments that look like names."""

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
    """Warn of comments that look like the name of an image.

    Args:
        report: Receives the findings.
        root: Folder that the paths in the list are relative to.
        file: The list.
    """
    names = set(read_image_list(file, root))
    for line in map(str.strip, read_text_file(file).splitlines()):
        words = line.rsplit(maxsplit=1)
        if line.startswith('#') and line not in names and words[0].lower().endswith(SUFFIXES):
            report.add('lines begin with # and name no file, and are left out as comments', line)
            report.left_out['lines that begin with #'] += 1


def parse_lines(report: SplitReport, root: Path, lines: Iterable[str]) -> list[tuple[str, str]]:
    """Split the lines of a list into path and class; lines without a class become findings.

    Args:
        report: Receives the findings.
        root: Folder that the paths are relative to.
        lines: The lines.
    """
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
            remedy='separate path and class by a space, not a comma' if commas else 'a line is "path class"',
            fatal=True,
        )
    return pairs


def check_repeated(report: SplitReport, pairs: Sequence[tuple[str, str]]) -> None:
    """Report images that a list has more than once: an error under several classes, otherwise a warning.

    Args:
        report: Receives the findings.
        pairs: Path and class of each line.
    """
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
    """List the names without a file, in the order of their folders; each folder is read once, which is fast.

    Args:
        root: Folder that the names are relative to.
        names: Paths of files.
    """
    folders = defaultdict(list)
    for name in names:
        folders[os.path.dirname(name)].append(name)
    missing = set()
    for folder, inside in folders.items():
        try:
            with os.scandir(root / folder) as entries:
                existing = {entry.name for entry in entries if entry.is_file()}
        except (OSError, ValueError):
            existing = set()
        missing |= {name for name in inside if os.path.basename(name) not in existing}
    return [name for name in dict.fromkeys(name for inside in folders.values() for name in inside) if name in missing]


def check_missing(report: SplitReport, root: Path, pairs: Sequence[tuple[str, str]]) -> set[str]:
    """Report images of a labeled list that are missing, and return their names.

    Args:
        report: Receives the findings.
        root: Folder that the paths are relative to.
        pairs: Path and class of each line.
    """
    missing = find_missing(root, (name for name, _ in pairs))
    texts = dict(pairs)
    for name in missing:
        has_space = len(name.split()) > 1 and os.path.isfile(root / name.split()[0])
        report.add(
            'images of the list are missing',
            f'{name!r}, class {texts[name]!r}' if ' ' in name else name,
            total=len(set(texts)),
            remedy='the class is the last word of a line: write classes without spaces'
            if has_space
            else _remedy_for_missing(root, name),
            fatal=True,
        )
    return set(missing)


def check_missing_in_pretraining(report: SplitReport, root: Path, names: Sequence[str]) -> None:
    """Report images of a pretraining list that are missing: an error if more than half are, otherwise a warning.

    Args:
        report: Receives the findings, and the number of missing images in ``left_out``.
        root: Folder that the paths are relative to.
        names: Paths of the images.
    """
    missing = find_missing(root, names)
    for name in missing:
        report.add(
            'images of the list are missing',
            name,
            total=len(set(names)),
            remedy=_remedy_for_missing(root, name)
            + ('' if 2 * len(missing) > len(set(names)) else '; others take their place'),
            fatal=2 * len(missing) > len(set(names)),
        )
        report.left_out['missing'] += 1


def _remedy_for_missing(root: Path, name: str) -> str:
    if '\\' in name and os.path.isfile(root / name.replace('\\', '/')):
        return 'write paths with / and not with \\'
    return f'paths are relative to {root}: fix the list or data_root'
