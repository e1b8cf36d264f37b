"""The table of formats in docs/weights.md names every format that there is, and no other."""

import re
from pathlib import Path

from mae_toolkit.checkpoints.names import FORMATS

PAGE = Path(__file__).parents[1] / 'docs' / 'weights.md'


def test_the_words_of_all_formats_are_in_the_table():
    rows = [line.split('|') for line in PAGE.read_text().splitlines() if line.startswith('|')]
    start = next(i for i, row in enumerate(rows) if row[2].strip() == 'word')
    table = rows[start + 2 : start + 2 + next(i for i, row in enumerate(rows[start:]) if 'projects/' in row[3]) - 1]
    words = {word for row in table for word in re.findall(r'`([^`]+)`', row[2])}
    assert words == {form.word for form in FORMATS}
    decoders = {word for row in table if row[4].strip() == 'yes' for word in re.findall(r'`([^`]+)`', row[2])}
    assert decoders == {form.word for form in FORMATS if form.whole}
