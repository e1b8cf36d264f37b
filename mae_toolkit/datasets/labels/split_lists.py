"""Read lists of the images of each split: ``train.txt``, ``val.txt`` and ``test.txt``, with a name in each line."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mae_toolkit.datasets.labels.splits import SPLITS, WORDS, find_split
from mae_toolkit.datasets.text_files import read_label_file


def read_split_lists(folders: Iterable[Path]) -> dict[str, str]:
    """Read the lists of some folders.

    A list is the file that is called just like its split, or else the only one whose name contains the word. So
    ``trainval.txt`` of Pascal VOC, which repeats two others, and ``aeroplane_train.txt``, one of many, are none.

    Args:
        folders: The folders; those that do not exist are skipped.

    Returns:
        Split of each name; empty if there is no list. What follows a blank in a line is no part of a name.
    """
    found: dict[str, str] = {}
    for folder in folders:
        files = sorted(folder.glob('*.txt'))
        for split in SPLITS:
            exact = [path for path in files if path.stem.lower() in WORDS[split]]
            similar = [path for path in files if find_split(path.name) == split]
            for path in exact or (similar if len(similar) == 1 else []):
                lines = [line.strip() for line in read_label_file(path).splitlines() if line.strip()]
                for name in (Path(name) for line in lines for name in (line.split()[0], line)):
                    found |= {name.name: split, name.as_posix(): split}
    return found


def find_listed(listed: Mapping[str, str], path: Path) -> str | None:
    """Return the split of a file; None if it is not listed.

    It may be listed with its suffix or without, and with its folders or without; the most folders count.

    Args:
        listed: See :func:`read_split_lists`.
        path: The file.
    """
    for parts in (path.parts[i:] for i in range(len(path.parts))):
        name = Path(*parts)
        if split := listed.get(name.as_posix()) or listed.get(name.with_name(path.stem).as_posix()):
            return split
    return None
