"""The results of probes as a table and as plain values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from mae_toolkit.evaluation.probes.data import Probe
from mae_toolkit.evaluation.probes.table import Row, compute_margin, find_best, find_best_of_each

MARK = 'mae_toolkit evaluate'  # by which files of ours are known


@dataclass(frozen=True)
class Evaluation:
    """What an encoder is worth on a labeled set.

    Attributes:
        rows: What each probe found of each level and pooling.
        probes: The probes by name.
        images: Number of images of each split, and ``held_out`` of those of training.
        about: Encoder, set, sizes, seed.
        notes: Where splits and classes come from, and what was left out.
        skipped: Reasons by name, of images that could not be read.
    """

    rows: list[Row]
    probes: Mapping[str, Probe]
    images: Mapping[str, int]
    about: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()
    skipped: Mapping[str, str] = field(default_factory=dict)

    @property
    def best(self) -> Row | None:
        """Return the row of the best validation score of the probes that learn from labels."""
        return find_best(self.rows, self.probes)

    @property
    def best_of_each(self) -> dict[str, Row]:
        """Return the row of the best validation score of each probe."""
        return find_best_of_each(self.rows, self.probes)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
        return {
            'written_by': MARK,
            **self.about,
            'images': dict(self.images),
            'notes': list(self.notes),
            'skipped': dict(self.skipped),
            'best': self.best and self.best.to_dict(),
            'best_of_each': {name: row.features for name, row in self.best_of_each.items()},
            'results': [row.to_dict() for row in self.rows],
        }

    def make_table(self) -> tuple[list[str], list[str], list[list[float | None]], list[list[bool]]]:
        """Return the test scores as a table.

        Returns:
            Levels and poolings, from the finest level; titles of the columns; scores, in percent but for ranks, None
            where a probe does not read such features; and which of them has the best validation score of its probe.
        """
        features = sorted({row.features: None for row in self.rows}, key=_find_level)
        titles = list(dict.fromkeys(title for probe in self.probes.values() for title in probe.columns.values()))
        scores: list[list[float | None]] = [[None] * len(titles) for _ in features]
        is_best = [[False] * len(titles) for _ in features]
        best = self.best_of_each
        for row in self.rows:
            probe = self.probes[row.probe]
            for metric, title in probe.columns.items():
                place = features.index(row.features), titles.index(title)
                factor = 1 if metric == 'rank' else 100
                scores[place[0]][place[1]] = factor * row.result.test[metric]
                is_best[place[0]][place[1]] = metric == probe.metric and best.get(row.probe) is row
        return features, titles, scores, is_best

    def format(self) -> str:
        """Write the table as Markdown, with what was chosen below it."""
        features, titles, scores, is_best = self.make_table()
        cells = [['features', *titles]]
        for name, values, marks in zip(features, scores, is_best, strict=True):
            pairs = zip(values, marks, strict=True)
            cells.append([name, *('' if v is None else f'{v:.1f}{"*" if mark else ""}' for v, mark in pairs)])
        widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
        lines = [' | '.join(text.ljust(width) for text, width in zip(row, widths, strict=True)) for row in cells]
        lines.insert(1, ' | '.join('-' * width for width in widths))
        return '\n'.join([*(f'| {line} |' for line in lines), '', *self.describe()])

    def describe(self) -> list[str]:
        """Say in sentences what the numbers are, and which reading is best."""
        counts = self.images
        metrics = {metric for probe in self.probes.values() for metric in probe.columns}
        ranks = '; rank: effective rank of training images' if 'rank' in metrics else ''
        said = ['Effective ranks of training images.']
        if metrics != {'rank'}:
            said = [
                f'Scores of {counts["test"]} test images in percent{ranks}. A star marks the best level and pooling of '
                f'a probe on {counts["val"]} validation images. Settings of a probe (k, temperature, C, learning rate) '
                f'were chosen on {counts["held_out"]} of {counts["train"]} training images.'
            ]
        row = self.best
        if row is not None:
            metric = self.probes[row.probe].metric
            test = row.result.test[metric]
            chosen = ', '.join(f'{key} {_write(value)}' for key, value in row.result.settings.items())
            said.append(
                f'Best on validation: {row.probe} of {row.features} ({chosen}), {100 * row.result.val[metric]:.1f} '
                f'there and {100 * test:.1f} on the test.'
            )
            if metric == 'accuracy':
                margin = 100 * compute_margin(test, counts['test'])
                said.append(f'With {counts["test"]} test images this is {margin:.1f} points more or less by chance.')
        said += [f'{note[0].upper()}{note[1:]}.' for note in self.notes]
        return said


def _find_level(name: str) -> int:
    """Return the level of ``'level4.mean'``, by which rows are sorted, with patches behind vectors."""
    level, _, pooling = name.removeprefix('level').partition('.')
    return 2 * int(level) + (pooling == 'patches')


def _write(value: object) -> str:
    return f'{value:.4g}' if isinstance(value, float) else str(value)
