"""Reports of data checks: counts, errors and warnings with examples, and how they are printed, stored and raised."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from mae_toolkit.datasets.checks.singular import to_singular
from mae_toolkit.errors import UserError
from mae_toolkit.printing import printable

MAX_EXAMPLES = 3  # that a finding keeps
SPLITS = ('train', 'val', 'test')


@dataclass
class Finding:
    """One kind of error or warning in a data set, how often it occurs, and the first few examples.

    Attributes:
        reason: What is wrong, as a clause that follows a number: ``'annotations have a box without area'``.
        count: How often it occurs.
        total: How many annotations, images or masks were checked.
        remedy: What the user can do, as an imperative clause: ``'fix or remove them'``.
        fatal: Whether it is an error, so that nothing should run with this data, or a warning.
        examples: The first few examples, each with image and id.
        is_counted: Whether the sentence begins with the count; False if the reason is about the whole file.
    """

    reason: str
    count: int = 0
    total: int = 0
    remedy: str = ''
    fatal: bool = False
    examples: list[str] = field(default_factory=list)
    is_counted: bool = True

    def __str__(self) -> str:
        """Return a sentence such as ``'2 of the 8 images are missing (1.jpg; 2.jpg): set data_root.'``."""
        more = f', and {self.count - len(self.examples)} more' if self.count > len(self.examples) else ''
        places = f' ({"; ".join(self.examples)}{more})' if self.examples else ''
        number = f'{self.count} of the {self.total} ' if self.total else f'{self.count} '
        reason = to_singular(self.reason, self.total > 0) if self.is_counted and self.count == 1 else self.reason
        sentence = f'{number if self.is_counted else ""}{reason}{places}'
        return f'{sentence}: {self.remedy}.' if self.remedy else f'{sentence}.'


@dataclass
class SplitReport:
    """Result of the check of one annotation file or folder of one split.

    Attributes:
        split: ``'train'``, ``'val'`` or ``'test'``.
        source: The annotation file or the folder.
        task: ``'detection'``, ``'segmentation'``, ``'classification'`` or ``'pretraining'``.
        images: Number of images.
        annotations: Number of boxes, masks or labels.
        classes: Number of annotations (pixels, in segmentation) of each class, by name, in the order of their indices.
        left_out: Number of annotations or images that training will not see, by reason.
        findings: Errors and warnings, by reason.
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
        """Count one more occurrence of a finding; see :class:`Finding`.

        Args:
            reason: What is wrong. Occurrences with the same reason are counted together.
            example: Where it occurs; the first few are kept.
            total: How many annotations, images or masks were checked.
            remedy: What the user can do.
            fatal: Whether it is an error, or a warning.
        """
        finding = self.findings.setdefault(reason, Finding(reason, 0, total, remedy, fatal))
        finding.count += 1
        if example and len(finding.examples) < MAX_EXAMPLES:
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
        """Count all occurrences of a finding at once; nothing is added if there are none.

        Args:
            reason: What is wrong.
            wrong: Whether it applies to each annotation or image (N,).
            describe: Function that describes an annotation or image by its index, for the examples.
            remedy: What the user can do.
            fatal: Whether it is an error, or a warning.
        """
        (where,) = np.nonzero(wrong)
        if len(where):
            examples = [describe(int(i)) for i in where[:MAX_EXAMPLES]] if describe else []
            self.findings[reason] = Finding(reason, len(where), len(wrong), remedy, fatal, examples)

    def add_sentence(self, sentence: str, remedy: str = '', *, fatal: bool = True) -> None:
        """Add an error or warning about the whole file, which is not counted.

        Args:
            sentence: What is wrong.
            remedy: What the user can do.
            fatal: Whether it is an error, or a warning.
        """
        self.findings[sentence] = Finding(sentence, 1, remedy=remedy, fatal=fatal, is_counted=False)

    @property
    def errors(self) -> list[Finding]:
        """Return the findings that are errors."""
        return [finding for finding in self.findings.values() if finding.fatal]

    @property
    def warnings(self) -> list[Finding]:
        """Return the findings that are warnings."""
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
    """Result of the check of a config's data, split by split."""

    splits: list[SplitReport] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return everything as plain values for JSON."""
        return {'splits': [split.to_dict() for split in self.splits]}

    def warnings(self, splits: Iterable[str] = SPLITS) -> list[str]:
        """Return one text per annotation file or folder that has warnings, with the number of occurrences."""
        return self._sentences(splits, lambda split: split.warnings)

    def raise_if_fatal(self, splits: Iterable[str] = SPLITS) -> None:
        """Refuse the data if there are errors in these splits.

        Raises:
            UserError: With every error, how often it occurs, the first few examples and the remedy.
        """
        errors = self.errors(splits)
        if errors:
            raise UserError('\n'.join(errors))

    def errors(self, splits: Iterable[str] = SPLITS) -> list[str]:
        """Return one text per annotation file or folder that has errors."""
        return self._sentences(splits, lambda split: split.errors)

    def _sentences(self, splits: Iterable[str], find: Callable[[SplitReport], list[Finding]]) -> list[str]:
        """Join the findings of each source; splits with the same findings share a text."""
        found: dict[str, list[str]] = {}
        for split in self.splits:
            findings = find(split)
            if findings and split.split in splits:
                sentence = printable(f' data {split.source}: {" ".join(map(str, findings))}')
                found.setdefault(sentence, []).append(split.split)
        return [' and '.join(dict.fromkeys(names)) + sentence for sentence, names in found.items()]
