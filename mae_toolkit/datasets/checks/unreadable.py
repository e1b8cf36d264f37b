"""Findings about files that cannot be read, which training skips if they are few."""

from __future__ import annotations

from mae_toolkit.datasets.checks.report import SplitReport


def add_unreadable(report: SplitReport, noun: str, example: str, count: int, total: int) -> None:
    """Report a file that cannot be read: a warning in training if at most half of the files are, otherwise an error.

    Args:
        report: The report of its split.
        noun: ``'images'`` or ``'masks'``.
        example: The file and the reason.
        count: Number of unreadable files.
        total: Number of files that were checked.
    """
    skipped = report.split == 'train' and 2 * count <= total
    report.add(
        f'{noun} cannot be read' + (' and will be skipped' if skipped else ''),
        example,
        total=total,
        remedy='' if skipped else 'fix or remove them',
        fatal=not skipped,
    )
    if skipped:
        report.left_out[f'unreadable {noun}'] += 1
