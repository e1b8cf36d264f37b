"""Which members of a shard belong together, and which of them is the image: WebDataset's convention."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import PurePosixPath

from mae_toolkit.datasets.image_io import SUFFIXES

LABEL_SUFFIXES = ('cls', 'json')  # in the order in which they are asked for the class
MOST_LABEL_BYTES = 1 << 20


@dataclass
class Member:
    """A file within a shard.

    Attributes:
        name: Its name in the shard, such as ``'n01440764/10026.jpg'``.
        offset: Byte at which its content begins.
        size: Number of its bytes.
    """

    name: str
    offset: int = 0
    size: int = 0


@dataclass
class Sample:
    """The members of one key.

    Attributes:
        key: What their names have in common, such as ``'n01440764/10026'``.
        members: By suffix, such as ``{'jpg': ..., 'cls': ...}``.
    """

    key: str
    members: dict[str, Member] = field(default_factory=dict)

    @property
    def image(self) -> Member | None:
        """Return the image: the first member with an image's suffix, those of a plain suffix (``jpg``) first.

        A suffix such as ``seg.png`` is that of a further picture of the sample.
        """
        found = [suffix for suffix in self.members if f'.{suffix}'.endswith(SUFFIXES)]
        plain = [suffix for suffix in found if '.' not in suffix]
        return self.members[(plain or found)[0]] if found else None

    def read_label(self, read: Callable[[Member], bytes]) -> int:
        """Return the class index in the member ``cls``, or under ``label`` in ``json``; -1 without one.

        Args:
            read: Function that reads a member.
        """
        for suffix in LABEL_SUFFIXES:
            member = self.members.get(suffix)
            if member is None or member.size > MOST_LABEL_BYTES:
                continue
            try:
                content = json.loads(read(member))
            except (ValueError, RecursionError):
                continue
            value = content.get('label') if isinstance(content, dict) else content
            if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
                return value
        return -1


def split_name(name: str) -> tuple[str, str]:
    """Split the name of a member into key and suffix at the first dot of its last part.

    For example, ``'a.b/dog.seg.PNG'`` is the key ``'a.b/dog'`` and the suffix ``'seg.png'``. A hidden file, such as
    ``'._dog.png'``, has no key.
    """
    path = PurePosixPath(name)
    stem, _, suffix = path.name.partition('.')
    return (name[: len(name) - len(path.name)] + stem if stem else ''), suffix.lower()


def group_members(members: Iterable[Member]) -> Iterator[Sample]:
    """Gather neighboring members of one key; a suffix that comes again begins another sample.

    Members without a suffix, and hidden ones, are left out.
    """
    sample = Sample('')
    for member in members:
        key, suffix = split_name(member.name)
        if not key or not suffix:
            continue
        if key != sample.key or suffix in sample.members:
            if sample.members:
                yield sample
            sample = Sample(key)
        sample.members[suffix] = member
    if sample.members:
        yield sample
