"""Turn what ``tools/explain.py`` shows into blocks of a report: the picture with its caption, and its numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mae_toolkit.apis.explain import Explanation
from mae_toolkit.printing import printable, shorten
from mae_toolkit.report.blocks import Block, Figure, Table

MOST_ROWS, MOST_VALUES, LONGEST = 24, 12, 200  # rows of a table; values in a cell; characters of a cell


def show_explanation(found: Explanation, command: str, note: str = '', left_out: Sequence[str] = ()) -> list[Block]:
    """Make the blocks of an explanation.

    Args:
        found: The explanation.
        command: Sub-command of ``tools/explain.py`` that writes all of its numbers.
        note: Which images were used, see :attr:`~mae_toolkit.report.inputs.Sample.note`.
        left_out: Names of numbers that say nothing to people.
    """
    caption = f'{found.caption} Used: {note}.' if note else found.caption
    blocks: list[Block] = [Figure(found.picture, found.title, caption)]
    numbers = {name: value for name, value in found.numbers.items() if name not in left_out}
    rows = list(list_numbers(numbers))
    if rows:
        more = len(rows) - MOST_ROWS
        said = f'{more:,} more are left out here: tools/explain.py {command} writes all of them.' if more > 0 else ''
        blocks.append(Table(f'Numbers: {found.title}', ('measured', 'value'), rows[:MOST_ROWS], said))
    blocks += [_make_table(name, value) for name, value in numbers.items() if _is_table(value)]
    return blocks


def list_numbers(numbers: Any, name: str = '') -> Iterator[tuple[str, str]]:
    """Yield name and value of what a dict holds, with dots in names of dicts in it; long lists are left out."""
    if isinstance(numbers, dict):
        for key, value in numbers.items():
            yield from list_numbers(value, f'{name}.{key}' if name else str(key))
    elif isinstance(numbers, list | tuple):
        if not _is_large(numbers):
            yield _name(name), _write(numbers)
    else:
        yield _name(name), _write(numbers)


def _is_table(value: Any) -> bool:
    """Return whether a value is a short list of dicts."""
    return isinstance(value, list) and 0 < len(value) <= MOST_ROWS and all(isinstance(row, dict) for row in value)


def _make_table(name: str, rows: list[dict[str, Any]]) -> Table:
    """Make a table of a list of dicts, without what is a dict or a long list in them."""
    keys = dict.fromkeys(key for row in rows for key in row)
    columns = [key for key in keys if not any(_is_large(row.get(key)) for row in rows)]
    cells = [[_write(row.get(key)) for key in columns] for row in rows]
    titles = [_name(key) for key in columns]
    if any(isinstance(row.get(columns[0]), list | tuple) for row in rows):  # no name for the row
        cells, titles = [[str(number), *row] for number, row in enumerate(cells, 1)], ['no.', *titles]
    return Table(_name(name).capitalize(), titles, cells)


def _is_large(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return len(value) > MOST_VALUES or any(isinstance(one, dict | list | tuple) for one in value)
    return isinstance(value, dict)


def _name(key: str) -> str:
    return printable(key.replace('_', ' '))


def _write(value: object) -> str:
    if isinstance(value, list | tuple):
        text = ', '.join(_write(one) for one in value)
    elif isinstance(value, bool):
        text = 'yes' if value else 'no'
    else:
        text = f'{value:.4g}' if isinstance(value, float) else printable('' if value is None else value)
    return shorten(text, LONGEST)
