"""Turn what ``tools/explain.py`` shows into blocks of a report: the picture with its caption, and its numbers."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from mae_toolkit.apis.explain import Explanation
from mae_toolkit.printing import printable
from mae_toolkit.report.blocks import Block, Figure, Table

MOST_ROWS, MOST_VALUES, LONGEST = 24, 12, 200  # rows of a table; values in a cell; characters of a cell


def show_explanation(found: Explanation, command: str, note: str = '') -> list[Block]:
    """Make the blocks of an explanation.

    Args:
        found: The explanation.
        command: Sub-command of ``tools/explain.py`` that writes all of its numbers.
        note: Which images were used, see :attr:`~mae_toolkit.report.inputs.Sample.note`.
    """
    caption = f'{found.caption} Used: {note}.' if note else found.caption
    blocks: list[Block] = [Figure(found.picture, found.title, caption)]
    rows = list(list_numbers(found.numbers))
    if rows:
        more = len(rows) - MOST_ROWS
        note = f'{more:,} more are left out here: tools/explain.py {command} writes all of them.' if more > 0 else ''
        blocks.append(Table(f'Numbers: {found.title}', ('measured', 'value'), rows[:MOST_ROWS], note))
    return blocks


def list_numbers(numbers: Any, name: str = '') -> Iterator[tuple[str, str]]:
    """Yield name and value of what a dict holds, with dots in names of dicts in it; long lists are left out."""
    if isinstance(numbers, dict):
        for key, value in numbers.items():
            yield from list_numbers(value, f'{name}.{key}' if name else str(key))
    elif isinstance(numbers, list | tuple):
        if len(numbers) <= MOST_VALUES and all(not isinstance(one, dict | list | tuple) for one in numbers):
            yield printable(name.replace('_', ' ')), ', '.join(_write(one) for one in numbers)
    else:
        yield printable(name.replace('_', ' ')), _write(numbers)


def _write(value: object) -> str:
    text = f'{value:.4g}' if isinstance(value, float) else printable('' if value is None else value)
    return text if len(text) <= LONGEST else f'{text[: LONGEST - 1]}…'
