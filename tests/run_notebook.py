"""Run a notebook from top to bottom and keep what it shows, small: tests/run_notebook.py docs/notebooks/tour.ipynb

The notebook is written again with what its cells print and draw: pictures as JPEG of at most 900 pixels, and the
standard output. Bars and logs on the standard error are left out.
"""

import base64
import io
import os
import sys
import tempfile
import textwrap
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
WIDTH, QUALITY = 900, 80
COLUMNS = 80  # of what a cell prints, after which a line is broken
MOST_LINES = 12  # of what a cell prints


def run_notebook(path, folder, **environment):
    """Run a notebook in a folder, in a kernel of its own; return it with all outputs. A cell that fails raises."""
    notebook = nbformat.read(path, as_version=4)
    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    variables = os.environ | {'PYTHONPATH': os.pathsep.join(paths)} | environment
    client = NotebookClient(
        notebook, timeout=1800, kernel_name='python3', resources={'metadata': {'path': str(folder)}}
    )
    client.execute(env=variables)
    return notebook


def shrink_outputs(notebook, folder):
    """Keep the standard output and small pictures, without the name of the folder."""
    for cell in notebook.cells:
        if cell.cell_type != 'code':
            continue
        cell.metadata.pop('execution', None)
        kept = [shrink(output, folder) for output in join_streams(cell.outputs)]
        cell.outputs = [output for output in kept if output is not None]
    return notebook


def join_streams(outputs):
    """Yield outputs; texts of a stream that follow each other, or have others of the other stream between, are one."""
    printed = ''.join(output.text for output in outputs if output.output_type == 'stream' and output.name == 'stdout')
    if printed:
        yield nbformat.v4.new_output('stream', name='stdout', text=printed)
    yield from (output for output in outputs if output.output_type != 'stream')


def shrink(output, folder):
    """Return a small output, or None if nothing of it is kept."""
    if output.output_type == 'stream':
        text = output.text.replace(f'{folder}/', '')
        lines = [line for line in text.splitlines() if line.strip() and ' - mmengine - ' not in line]
        lines = [part for line in lines for part in (textwrap.wrap(line, COLUMNS) if len(line) > COLUMNS else [line])]
        if len(lines) > MOST_LINES:
            lines = ['...', *lines[-MOST_LINES:]]
        return nbformat.v4.new_output('stream', name='stdout', text='\n'.join([*lines, ''])) if lines else None
    if 'data' not in output or 'image/png' not in output.data:
        return None
    picture = Image.open(io.BytesIO(base64.b64decode(output.data['image/png']))).convert('RGB')
    if picture.width > WIDTH:
        picture = picture.resize((WIDTH, round(picture.height * WIDTH / picture.width)), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    picture.save(buffer, 'JPEG', quality=QUALITY, optimize=True)
    return nbformat.v4.new_output(
        'display_data', {'image/jpeg': base64.b64encode(buffer.getvalue()).decode(), 'text/plain': 'a picture'}
    )


if __name__ == '__main__':
    path = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        nbformat.write(shrink_outputs(run_notebook(path, folder), folder), path)
