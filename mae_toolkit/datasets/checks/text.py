"""Text of a data check's report."""

from __future__ import annotations

from collections.abc import Sequence

from mae_toolkit.datasets.checks.report import DataReport
from mae_toolkit.printing import printable

MAX_CLASSES = 100  # in the table; the JSON has all
UNITS = {'segmentation': 'pixels', 'classification': 'images', 'detection': 'annotations'}


def format_report(report: DataReport) -> str:
    """Format a report as text: counts by split and by class, what is left out, errors and warnings."""
    if not report.splits:
        return 'The config has no data that can be checked here.'
    head = ['split', 'images', 'annotations', 'left out', 'errors', 'warnings', 'source']
    rows = [
        [
            split.split,
            f'{split.images:,}',
            f'{split.annotations:,}',
            f'{sum(split.left_out.values()):,}',
            str(len(split.errors)),
            str(len(split.warnings)),
            printable(split.source),
        ]
        for split in report.splits
    ]
    parts = [_format_table([head, *rows]), *_format_classes(report)]
    for split in report.splits:
        left_out = [f'{printable(reason)} ({count:,})' for reason, count in split.left_out.items()]
        parts += [f'{split.split} leaves out: {"; ".join(left_out)}.'] if left_out else []
    parts += [f'error: {sentence}' for sentence in report.errors()]
    parts += [f'warning: {sentence}' for sentence in report.warnings()]
    if not report.errors() and not report.warnings():
        parts.append('No errors or warnings.')
    return '\n\n'.join(parts)


def _format_classes(report: DataReport) -> list[str]:
    """Format a table of counts by class, with a column for each split that has any."""
    splits = [split for split in report.splits if split.classes]
    if not splits:
        return []
    names = list(dict.fromkeys(name for split in splits for name in split.classes))
    unit = UNITS.get(splits[0].task, 'annotations')
    table = [[f'{unit} of class', *(split.split for split in splits)]]
    table += [
        [printable(name), *(f'{split.classes[name]:,}' if name in split.classes else '-' for split in splits)]
        for name in names[:MAX_CLASSES]
    ]
    more = [f'… {len(names) - MAX_CLASSES} more classes'] if len(names) > MAX_CLASSES else []
    return ['\n'.join([_format_table(table), *more])]


def _format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align columns: numbers to the right, text to the left."""
    columns = list(zip(*rows, strict=True))
    widths = [max(map(len, column)) for column in columns]
    is_number = [all(text[:1].isdigit() or text == '-' for text in column[1:]) for column in columns]
    return '\n'.join(
        '  '.join(
            text.rjust(width) if right else text.ljust(width)
            for text, width, right in zip(row, widths, is_number, strict=True)
        ).rstrip()
        for row in rows
    )
