"""A notebook as a page."""

import json
from pathlib import Path

from website.dialect import to_site


def to_page(path: Path) -> str:
    """Turn a notebook into Markdown: its texts, its code, and what it printed; pictures stay in the notebook."""
    cells = json.loads(path.read_text())['cells']
    written = [_write_cell(cell['cell_type'], ''.join(cell['source']), cell.get('outputs', ())) for cell in cells]
    head, *rest = filter(None, written)
    where = (
        f'This page is the notebook <a href="../{path.name}" download>{path.name}</a>, which runs from top to bottom.'
    )
    return '\n\n'.join([head, where, *rest]) + '\n'


def _write_cell(kind: str, source: str, outputs: tuple) -> str:
    if kind == 'markdown':
        return to_site(source)
    if kind != 'code' or not source.strip():
        return ''
    printed = [''.join(output.get('text', ())) for output in outputs if output.get('output_type') == 'stream']
    text = ''.join(printed).rstrip()
    return f'~~~~python\n{source.rstrip()}\n~~~~' + (f'\n\n~~~~text\n{text}\n~~~~' if text else '')
