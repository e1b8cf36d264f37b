"""What a look at a data set found: counts, faults with examples, and how they are printed, stored and raised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from mae_toolkit.errors import UserError

EXAMPLES = 3  # that a finding keeps


@dataclass
class Finding:
    """One kind of fault in a data set, how often it occurs, and the first few places.

    Attributes:
        reason: What is wrong, as a clause that follows a number: ``'annotations have a box without area'``.
        count: How often it occurs.
        total: How many annotations, images or masks were looked at.
        remedy: What the user can do, as an imperative clause: ``'mend or remove them'``.
        fatal: Whether it is wrong beyond doubt, so that nothing should run with this data.
        examples: The first few places, each naming image and id.
    """

    reason: str
    count: int = 0
    total: int = 0
    remedy: str = ''
    fatal: bool = False
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """One sentence: how many of how many, what, the first few places, and the remedy."""
        more = f', and {self.count - len(self.examples)} more' if self.count > len(self.examples) else ''
        places = f' ({"; ".join(self.examples)}{more})' if self.examples else ''
        number = f'{self.count} of the {self.total}' if self.total else str(self.count)
        return f'{number} {self.reason}{places}' + (f': {self.remedy}.' if self.remedy else '.')


@dataclass
class SplitReport:
    """What was found in the data of one split, from one annotation file or folder.

    Attributes:
        split: ``'train'``, ``'val'`` or ``'test'``.
        source: The annotation file or the folder.
        task: ``'detection'``, ``'segmentation'``, ``'classification'`` or ``'pretraining'``.
        images: Number of images.
        annotations: Number of boxes, masks or labels.
        classes: How many annotations (pixels, in segmentation) each class has, by name, in the order of their numbers.
        left_out: How many annotations or images training will not see, by reason.
        findings: The faults, by reason.
    """

    split: str
    source: str
    task: str
    images: int = 0
    annotations: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    findings: dict[str, Finding] = field(default_factory=dict)

    def add(self, reason: str, example: str = '', *, total: int = 0, remedy: str = '', fatal: bool = False) -> None:
        """Count one more fault of a kind; see :class:`Finding`."""
        finding = self.findings.setdefault(reason, Finding(reason, 0, total, remedy, fatal))
        finding.count += 1
        if example and len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    @property
    def fatal(self) -> list[Finding]:
        """The faults that are wrong beyond doubt."""
        return [finding for finding in self.findings.values() if finding.fatal]

    @property
    def doubtful(self) -> list[Finding]:
        """The other faults."""
        return [finding for finding in self.findings.values() if not finding.fatal]

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {
            'split': self.split,
            'source': self.source,
            'task': self.task,
            'images': self.images,
            'annotations': self.annotations,
            'classes': dict(self.classes),
            'left_out': dict(self.left_out),
            'findings': [vars(finding).copy() for finding in self.findings.values()],
        }


@dataclass
class DataReport:
    """What was found in the data of a config, split by split."""

    splits: list[SplitReport] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {'splits': [split.to_dict() for split in self.splits]}

    def warnings(self) -> list[str]:
        """One sentence per split that has doubtful faults, with the count by reason."""
        return [
            f'{split.split} data {split.source}: {" ".join(map(str, split.doubtful))}'
            for split in self.splits
            if split.doubtful
        ]

    def raise_if_fatal(self, splits: Iterable[str] = ('train', 'val', 'test')) -> None:
        """Refuse the data if something in these splits is wrong beyond doubt.

        Raises:
            UserError: With every such fault, how often it occurs, the first few places and the remedy.
        """
        wrong = [
            f'{split.split} data {split.source}: {" ".join(map(str, split.fatal))}'
            for split in self.splits
            if split.fatal and split.split in splits
        ]
        if wrong:
            raise UserError('\n'.join(wrong))
