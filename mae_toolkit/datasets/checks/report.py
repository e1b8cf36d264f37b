"""What a look at a data set found: counts, faults with examples, and how they are printed, stored and raised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mae_toolkit.datasets.checks.singular import to_singular
from mae_toolkit.errors import UserError
from mae_toolkit.printing import printable

EXAMPLES = 3  # that a finding keeps
SPLITS = ('train', 'val', 'test')


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
        is_counted: Whether the sentence begins with the count; false where the reason is about the whole file.
    """

    reason: str
    count: int = 0
    total: int = 0
    remedy: str = ''
    fatal: bool = False
    examples: list[str] = field(default_factory=list)
    is_counted: bool = True

    def __str__(self) -> str:
        """One sentence: how many of how many, what, the first few places, and the remedy."""
        more = f', and {self.count - len(self.examples)} more' if self.count > len(self.examples) else ''
        places = f' ({"; ".join(self.examples)}{more})' if self.examples else ''
        number = f'{self.count} of the {self.total} ' if self.total else f'{self.count} '
        reason = to_singular(self.reason, self.total > 0) if self.is_counted and self.count == 1 else self.reason
        sentence = f'{number if self.is_counted else ""}{reason}{places}'
        return f'{sentence}: {self.remedy}.' if self.remedy else f'{sentence}.'


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
        paths: The images, to find those that training and evaluation share; not in the JSON.
    """

    split: str
    source: str
    task: str
    images: int = 0
    annotations: int = 0
    classes: dict[str, int] = field(default_factory=dict)
    left_out: Counter[str] = field(default_factory=Counter)
    findings: dict[str, Finding] = field(default_factory=dict)
    paths: frozenset[str] = field(default=frozenset(), repr=False)

    def add(self, reason: str, example: str = '', *, total: int = 0, remedy: str = '', fatal: bool = False) -> None:
        """Count one more fault of a kind; see :class:`Finding`."""
        finding = self.findings.setdefault(reason, Finding(reason, 0, total, remedy, fatal))
        finding.count += 1
        if example and len(finding.examples) < EXAMPLES:
            finding.examples.append(example)

    def add_many(
        self,
        reason: str,
        wrong: np.ndarray,
        describe: Callable[[int], str] | None = None,
        *,
        remedy: str = '',
        fatal: bool = False,
    ) -> None:
        """Count all faults of a kind at once; nothing is added where there are none.

        Args:
            reason: See :class:`Finding`.
            wrong: Whether each annotation or image has the fault.
            describe: Gives the place of an annotation or image by its index.
            remedy: See :class:`Finding`.
            fatal: See :class:`Finding`.
        """
        (where,) = np.nonzero(wrong)
        if len(where):
            examples = [describe(int(i)) for i in where[:EXAMPLES]] if describe else []
            self.findings[reason] = Finding(reason, len(where), len(wrong), remedy, fatal, examples)

    def add_sentence(self, sentence: str, remedy: str = '', *, fatal: bool = True) -> None:
        """Add a fault of the whole file, which is not counted; without ``fatal`` it is doubtful."""
        self.findings[sentence] = Finding(sentence, 1, remedy=remedy, fatal=fatal, is_counted=False)

    @property
    def errors(self) -> list[Finding]:
        """The faults that are wrong beyond doubt."""
        return [finding for finding in self.findings.values() if finding.fatal]

    @property
    def warnings(self) -> list[Finding]:
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
            'findings': [asdict(finding) for finding in self.findings.values()],
        }


@dataclass
class DataReport:
    """What was found in the data of a config, split by split."""

    splits: list[SplitReport] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {'splits': [split.to_dict() for split in self.splits]}

    def warnings(self, splits: Iterable[str] = SPLITS) -> list[str]:
        """One sentence per annotation file or folder that has doubtful faults, with the count by reason."""
        return self._sentences(splits, lambda split: split.warnings)

    def raise_if_fatal(self, splits: Iterable[str] = SPLITS) -> None:
        """Refuse the data if something in these splits is wrong beyond doubt.

        Raises:
            UserError: With every such fault, how often it occurs, the first few places and the remedy.
        """
        wrong = self.errors(splits)
        if wrong:
            raise UserError('\n'.join(wrong))

    def errors(self, splits: Iterable[str] = SPLITS) -> list[str]:
        """One sentence per annotation file or folder with what is wrong beyond doubt."""
        return self._sentences(splits, lambda split: split.errors)

    def _sentences(self, splits: Iterable[str], find: Callable[[SplitReport], list[Finding]]) -> list[str]:
        """Join the findings of each source; splits of which the same is found share a sentence."""
        found: dict[str, list[str]] = {}
        for split in self.splits:
            findings = find(split)
            if findings and split.split in splits:
                sentence = printable(f' data {split.source}: {" ".join(map(str, findings))}')
                found.setdefault(sentence, []).append(split.split)
        return [' and '.join(dict.fromkeys(names)) + sentence for sentence, names in found.items()]
