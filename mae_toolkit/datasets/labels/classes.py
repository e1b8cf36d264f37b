"""Read classes of whole images: folders of classes, or a table of files and labels."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.labels.belonging import refuse_strangers, refuse_unreadable
from mae_toolkit.datasets.labels.splits import choose_shares, find_split, split_images
from mae_toolkit.datasets.text_files import read_label_file
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import printable, some

LABEL_COLUMNS = ('label', 'class', 'category', 'target', 'y')
FILE_COLUMNS = ('file', 'filename', 'file_name', 'image', 'path', 'filepath', 'img', 'id', 'image_id')


@dataclass
class ClassLabels:
    """Labels of a classifier.

    Attributes:
        format: Name of the format that they were read from.
        splits: Path and class of the images of each split; all under ``'all'`` if the data has no splits.
        notes: What a user should know about how the labels were read.
    """

    format: str
    splits: dict[str, list[tuple[Path, str]]]
    notes: list[str] = field(default_factory=list)

    @property
    def classes(self) -> list[str]:
        """Return the names of the classes, sorted."""
        return sorted({name for pairs in self.splits.values() for _, name in pairs})


def read_classes(data: Path, images: Path | None = None) -> ClassLabels:
    """Read folders of classes, with or without a folder for each split, or a CSV file with a file and a label per line.

    Args:
        data: The folder or the CSV file. A CSV may have a header, and a third column that names the split.
        images: Folder to which the files of a CSV are relative; that of the CSV if None.

    Raises:
        UserError: If there are no classes, or files are missing.
    """
    if data.is_file():
        return _read_table(data, (images or data.parent).resolve())
    if not data.is_dir():
        raise UserError(f'There is no file or folder {printable(data)}: give class folders or a CSV.')
    return _read_folders(data.resolve())


def _read_folders(data: Path) -> ClassLabels:
    names = [Path(name) for name in list_images(data)]
    tops = {name.parts[0] for name in names if len(name.parts) > 1}
    split_of = {top: find_split(top) for top in tops}
    has_splits = bool(tops) and all(split_of.values()) and 'train' in split_of.values()
    level = 1 if has_splits else 0
    loose = [name for name in names if len(name.parts) < level + 2]
    if loose:
        raise UserError(
            f'{len(loose)} of the {len(names)} images of {printable(data)} lie in no class folder '
            f'({some([printable(name) for name in loose], 3)}): classes are folders, as in {data.name}/cat/1.jpg.'
        )
    splits: dict[str, list[tuple[Path, str]]] = {}
    for name in names:
        split = split_of[name.parts[0]] if has_splits else 'all'
        splits.setdefault(str(split), []).append((data / name, name.parts[level]))
    return ClassLabels('class folders', splits)


def _read_table(file: Path, root: Path) -> ClassLabels:
    text = read_label_file(file)
    rows = [row for row in csv.reader(io.StringIO(text), _find_dialect(text)) if any(map(str.strip, row))]
    if not rows or any(len(row) < 2 for row in rows):
        raise UserError(f'{printable(file)} is no table of files and labels: write "file,label" in each line.')
    header = [cell.strip().lower() for cell in rows[0]]
    first, second, third = 0, 1, 2
    if set(header) & {*LABEL_COLUMNS, *FILE_COLUMNS}:
        first = next((i for i, name in enumerate(header) if name in FILE_COLUMNS), 0)
        second = next((i for i, name in enumerate(header) if name in LABEL_COLUMNS), 1)
        third = header.index('split') if 'split' in header else len(header)
        rows = rows[1:]
    paths = [(root / row[first].strip()).resolve() for row in rows]
    refuse_strangers(file, root, [row[first].strip() for row in rows], [path.is_file() for path in paths])
    splits: dict[str, list[tuple[Path, str]]] = {}
    for row, path in zip(rows, paths, strict=True):
        split = find_split(row[third].strip()) if len(row) > third else None
        splits.setdefault(split or 'all', []).append((path, row[second].strip()))
    several = [path for path, count in Counter(paths).items() if count > 1]
    if several:
        names = some([printable(path.name) for path in several], 3)
        raise UserError(f'{printable(file)} has {len(several)} files more than once ({names}): an image has one class.')
    return ClassLabels('CSV', splits if 'train' in splits else {'all': [p for part in splits.values() for p in part]})


def _find_dialect(text: str) -> type[csv.Dialect]:
    """Find what separates the columns: a comma, a semicolon or a tab."""

    class Dialect(csv.excel):
        delimiter = max(',;\t', key=text[:10_000].count)

    return Dialect


def prepare_classes(data: Path, images: Path | None = None, seed: int = 0) -> ClassLabels:
    """Read classes, split the images of each at random where there are no splits, and refuse what cannot be trained on.

    Args:
        data: See :func:`read_classes`.
        images: See :func:`read_classes`.
        seed: Seed of the split.

    Raises:
        UserError: In one sentence.
    """
    labels = read_classes(data, images)
    if len(labels.classes) < 2:
        raise UserError(f'{printable(data)} has the classes {some(labels.classes) or "none"}: two or more are needed.')
    refuse_unreadable(data, [path for pairs in labels.splits.values() for path, _ in pairs])
    if 'val' not in labels.splits:
        _split(labels, seed)
    else:
        labels.notes.append('splits are those of the data')
    trained = {name for _, name in labels.splits['train']}
    if lost := [name for name in labels.classes if name not in trained]:
        verb = 'has' if len(lost) == 1 else 'have'
        raise UserError(
            f'{len(lost)} of the {len(labels.classes)} classes {verb} no training image ({some(lost)}): move an image '
            'of each into training, or remove the class.'
        )
    return labels


def _split(labels: ClassLabels, seed: int) -> None:
    name = 'all' if 'all' in labels.splits else 'train'
    pairs = labels.splits.pop(name)
    shares = choose_shares(len(pairs))
    if 'test' in labels.splits:
        shares = shares._replace(test=0.0)
    chosen = split_images([label for _, label in pairs], shares, seed)
    parts = {split: [pairs[i] for i in indices] for split, indices in chosen.items()}
    labels.splits = parts | labels.splits
    counts = ', '.join(f'{len(part)} {split}' for split, part in labels.splits.items())
    labels.notes.append(f'split at random with seed {seed}, in equal shares of each class: {counts}')


def write_lists(labels: ClassLabels, folder: Path) -> tuple[Path, list[str]]:
    """Write a list of paths and classes for each split; blanks in the names of classes become underscores.

    Args:
        labels: The labels.
        folder: The folder, which is made.

    Returns:
        The folder to which the paths are relative, and the names of the classes as they are written.
    """
    root = Path(os.path.commonpath([path.parent for pairs in labels.splits.values() for path, _ in pairs]))
    folder.mkdir(parents=True, exist_ok=True)
    for split, pairs in labels.splits.items():
        lines = [f'{path.relative_to(root).as_posix()} {_join_words(name)}' for path, name in pairs]
        atomic_write(folder / f'{split}.txt', '\n'.join(lines) + '\n')
    return root, list(map(_join_words, labels.classes))


def _join_words(name: str) -> str:
    return re.sub(r'\s+', '_', name.strip())


def count_classes(pairs: Sequence[tuple[Path, str]]) -> Counter[str]:
    """Count the images of each class.

    Args:
        pairs: Path and class of each image.
    """
    return Counter(name for _, name in pairs)
