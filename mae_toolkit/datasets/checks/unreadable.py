"""Files that cannot be read: skipped in training if they are few, refused elsewhere."""

from __future__ import annotations

from mae_toolkit.datasets.checks.report import SplitReport


def add_unreadable(report: SplitReport, what: str, example: str, count: int, total: int) -> None:
    """Report one of the files that cannot be read.

    Args:
        report: The report of its split.
        what: ``'images'`` or ``'masks'``.
        example: The file and the reason.
        count: How many of them there are in all.
        total: How many files were looked at.
    """
    skipped = report.split == 'train' and 2 * count <= total
    report.add(
        f'{what} cannot be read' + (' and will be skipped' if skipped else ''),
        example,
        total=total,
        remedy='' if skipped else 'mend or remove them',
        fatal=not skipped,
    )
    if skipped:
        report.left_out[f'unreadable {what}'] += 1
