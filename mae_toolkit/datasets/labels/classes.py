"""Read classes of whole images: folders of classes, or a table of files and labels."""

from __future__ import annotations

import csv
import io
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.image_files import list_images
from mae_toolkit.datasets.labels.belonging import refuse_strangers, refuse_unreadable
from mae_toolkit.datasets.labels.splits import (
    complete_splits,
    find_split,
    group_by_split,
    refuse_untrained_classes,
    settle_splits,
)
from mae_toolkit.datasets.text_files import read_label_file
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import printable, some

LABEL_COLUMNS = ('label', 'class', 'category', 'target', 'y')
FILE_COLUMNS = ('file', 'filename', 'file_name', 'image', 'path', 'filepath', 'img', 'image_id', 'id')


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

    def look_up(self, items: Iterable[Any]) -> list[str | None]:
        """Return the class of each image; None for one without a class, and for what is no file.

        Args:
            items: Images as :func:`~mae_toolkit.evaluation.embeddings.reading.list_items` lists them.
        """
        class_of = {path.resolve(): name for pairs in self.splits.values() for path, name in pairs}
        return [class_of.get(item.resolve()) if isinstance(item, Path) else None for item in items]


def read_classes(data: Path, images: Path | None = None) -> ClassLabels:
    """Read folders of classes, with or without a folder for each split, or a CSV file with a file and a label per line.

    Args:
        data: The folder or the CSV file. A CSV may have a header, and a third column that names the split.
        images: Folder to which the files of a CSV are relative; that of the CSV if None.

    Raises:
        UserError: If there are no classes, files are missing, or none is of training.
    """
    if data.is_file():
        return _read_table(data, (images or data.parent).resolve())
    if not data.is_dir():
        raise UserError(f'There is no file or folder {printable(data)}: give class folders or a CSV.')
    return _read_folders(data.resolve())


def _read_folders(data: Path) -> ClassLabels:
    names = [Path(name) for name in list_images(data)]
    split_of = _find_split_folders(names)
    level = 1 if split_of else 0
    loose = [name for name in names if len(name.parts) < level + 2 and (not split_of or name.parts[0] in split_of)]
    if loose:
        raise UserError(
            f'{len(loose)} of the {len(names)} images of {printable(data)} lie in no class folder '
            f'({some([printable(name) for name in loose], 3)}): classes are folders, as in {data.name}/cat/1.jpg.'
        )
    pairs = [(data / name, name.parts[min(level, len(name.parts) - 1)]) for name in names]
    splits, notes = settle_splits(group_by_split(pairs, [split_of.get(name.parts[0]) for name in names]))
    return ClassLabels('class folders', splits, notes)


def _find_split_folders(names: Sequence[Path]) -> dict[str, str]:
    """Find the folders of splits, which hold class folders; none, if the folders are those of classes.

    ``train`` beside ``car`` is a class, while ``train/a`` beside ``val/a`` or ``test/a`` is a split.
    """
    tops = {name.parts[0] for name in names if len(name.parts) > 1}
    deep = {name.parts[0] for name in names if len(name.parts) > 2}
    split_of = {top: split for top in tops if (split := find_split(top))}
    several = len({split for top, split in split_of.items() if top in deep}) > 1
    return split_of if 'train' in split_of.values() and (several or len(split_of) == len(tops)) else {}


def _read_table(file: Path, root: Path) -> ClassLabels:
    text = read_label_file(file)
    rows = [row for row in csv.reader(io.StringIO(text), _find_dialect(text)) if any(map(str.strip, row))]
    first, second, third, has_header = _find_columns(rows[0]) if rows else (0, 1, 2, False)
    rows = rows[1:] if has_header else rows
    if not rows or any(len(row) <= max(first, second) for row in rows):
        raise UserError(f'{printable(file)} is no table of files and labels: write "file,label" in each line.')
    paths = [(root / row[first].strip()).resolve() for row in rows]
    refuse_strangers(file, root, [row[first].strip() for row in rows], [path.is_file() for path in paths])
    several = [path for path, count in Counter(paths).items() if count > 1]
    if several:
        names = some([printable(path.name) for path in several], 3)
        raise UserError(f'{printable(file)} has {len(several)} files more than once ({names}): an image has one class.')
    pairs = [(path, row[second].strip()) for row, path in zip(rows, paths, strict=True)]
    unlabeled = [printable(path.name) for path, label in pairs if not label]
    if unlabeled:
        raise UserError(
            f'{printable(file)} has no label for {len(unlabeled)} of its {len(pairs)} images ({some(unlabeled, 3)}): '
            'write one, or remove these lines.'
        )
    words = [find_split(row[third].strip()) if len(row) > third else None for row in rows]
    splits, notes = settle_splits(group_by_split(pairs, words))
    return ClassLabels('CSV', splits, notes)


def _find_columns(row: Sequence[str]) -> tuple[int, int, int, bool]:
    """Find the columns of files, labels and splits by a header; the first three, in this order, without one.

    Args:
        row: The first row.

    Returns:
        The three numbers, and whether the row is a header.
    """
    header = [cell.strip().lower() for cell in row]
    if not set(header) & {*LABEL_COLUMNS, *FILE_COLUMNS}:
        return 0, 1, 2, False
    third = header.index('split') if 'split' in header else len(header)
    first = next((header.index(name) for name in FILE_COLUMNS if name in header), None)
    second = next((header.index(name) for name in LABEL_COLUMNS if name in header), None)
    free = [i for i in range(len(header)) if i not in (first, second, third)]
    free.append(len(header))  # which is no column of a row
    first = free.pop(0) if first is None else first
    return first, free[0] if second is None else second, third, True


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
    labels.splits, notes = complete_splits(labels.splits, lambda pairs: [name for _, name in pairs], seed)
    labels.notes += notes
    refuse_untrained_classes(labels.classes, {name for _, name in labels.splits['train']}, 'remove the class')
    return labels


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
