"""Tables of text: what is in a folder, and what was chosen and why."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mae_toolkit.config.knobs import Knob
from mae_toolkit.datasets.fingerprint import QUANTILES, Fingerprint
from mae_toolkit.printing import format_count, printable, some

LOW, MEDIAN, HIGH = (QUANTILES.index(q) for q in (0.0, 0.5, 1.0))
LONGEST = 40  # characters of a value


def format_table(rows: Sequence[Sequence[str]]) -> str:
    """Align the columns of a table with blanks.

    Args:
        rows: The cells; all rows have the same number.
    """
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return '\n'.join(
        '  '.join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )


def describe_fingerprint(fingerprint: Fingerprint) -> list[tuple[str, str]]:
    """Return what is in a folder as pairs of a heading and a text.

    Args:
        fingerprint: The fingerprint.
    """
    found = fingerprint
    count = f'{found.images:,}' + (f', of which {found.opened:,} were opened' if found.opened < found.images else '')
    rows = [('images', f'{count} ({found.opened / max(found.seconds, 0.01):,.0f} images/s)')]
    if found.readable:
        sizes = [f'{found.widths[i]:.0f} x {found.heights[i]:.0f}' for i in (LOW, MEDIAN, HIGH)]
        rows.append(('width x height', f'{sizes[1]} (median), from {sizes[0]} to {sizes[2]}'))
        ratios = [f'{found.aspect_ratios[i]:.2f}' for i in (LOW, MEDIAN, HIGH)]
        rows.append(('width / height', f'{ratios[1]} (median), from {ratios[0]} to {ratios[2]}'))
        kinds = ', '.join(f'{n} ({format_count(count, "image")})' for n, count in found.channels.items())
        rows.append(('channels', kinds + (f', {found.with_alpha:,} with an opacity' if found.with_alpha else '')))
        rows.append(
            ('numbers', ', '.join(f'{name} ({format_count(count, "image")})' for name, count in found.dtypes.items()))
        )
        rows.append(('mean', ', '.join(f'{value:.4g}' for value in found.mean)))
        rows.append(('std', ', '.join(f'{value:.4g}' for value in found.std)))
    if found.near_duplicates:
        example = some([printable(name) for name in found.duplicate_groups[0]], 3)
        rows.append(
            ('near-duplicates', f'{format_count(found.near_duplicates, "image")} like another, such as {example}')
        )
    else:
        rows.append(('near-duplicates', 'none'))
    if found.constant:
        names = some([printable(name) for name in found.constant_names], 3)
        rows.append(('nearly constant', f'{format_count(found.constant, "image")}, such as {names}'))
    if found.broken:
        reasons = some([f'{printable(name)} ({reason})' for name, reason in found.broken_reasons.items()], 2)
        rows.append(('broken', f'{format_count(found.broken, "image")}: {reasons}'))
    else:
        rows.append(('broken', 'none'))
    return rows


def describe_knobs(knobs: Mapping[str, Knob]) -> list[tuple[str, str, str]]:
    """Return settings as triples of name, value and reason, below a heading.

    Args:
        knobs: The settings by name.
    """
    rows = [(name, _shorten(knob.value), knob.reason) for name, knob in knobs.items()]
    return [('setting', 'value', 'reason'), *rows]


def _shorten(value: Any) -> str:
    """Write a value without the digits of numbers that nobody reads; of a long text, such as a path, the end."""
    if isinstance(value, list):
        value = [float(f'{item:.4g}') if isinstance(item, float) else item for item in value]
    text = printable(value)
    if len(text) <= LONGEST:
        return text
    return f'…{text[1 - LONGEST :]}' if isinstance(value, str) else f'{text[: LONGEST - 1]}…'
