"""A notebook as a page."""

import html
import json
from pathlib import Path
from typing import Any

from website.dialect import to_site


def to_page(path: Path) -> str:
    """Turn a notebook into Markdown: its texts, its code, what it printed, and the pictures that it shows."""
    cells = json.loads(path.read_text())['cells']
    written = [_write_cell(cell) for cell in cells]
    head, *rest = filter(None, written)
    where = (
        f'This page is the notebook <a href="../{path.name}" download>{path.name}</a>, which runs from top to bottom.'
    )
    return '\n\n'.join([head, where, *rest]) + '\n'


def _write_cell(cell: dict[str, Any]) -> str:
    kind, source, outputs = cell['cell_type'], ''.join(cell['source']), cell.get('outputs', ())
    if kind == 'markdown':
        return to_site(source)
    if kind != 'code' or not source.strip():
        return ''
    printed = [''.join(output.get('text', ())) for output in outputs if output.get('output_type') == 'stream']
    text = ''.join(printed).rstrip()
    parts = [f'~~~~python\n{source.rstrip()}\n~~~~', f'~~~~text\n{text}\n~~~~' if text else '']
    alt = html.escape(cell.get('metadata', {}).get('alt', 'What the cell above shows'))
    for output in outputs:
        for kind, content in output.get('data', {}).items():
            if kind in ('image/jpeg', 'image/png'):
                encoded = ''.join(content).replace('\n', '')
                parts.append(f'<img alt="{alt}" src="data:{kind};base64,{encoded}">')
    return '\n\n'.join(filter(None, parts))
