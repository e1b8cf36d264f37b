"""docs/notebooks/tour.ipynb: it runs from top to bottom, installs what is missing, and shows what it says."""

import base64
import io
import json
import os
import re
import subprocess
from unittest import mock

import pytest
from PIL import Image

from tiny import ROOT

TOUR = ROOT / 'docs' / 'notebooks' / 'tour.ipynb'
CELLS = json.loads(TOUR.read_text())['cells']
CODE = [cell for cell in CELLS if cell['cell_type'] == 'code']


def pictures_of(cell):
    return [output for output in cell['outputs'] if any(kind.startswith('image/') for kind in output.get('data', {}))]


@pytest.mark.process
@pytest.mark.slow
def test_the_tour_runs_from_top_to_bottom(tmp_path):
    """With a few steps and images; each cell that says what it shows, shows a picture."""
    pytest.importorskip('nbclient', reason='nbclient is not installed: pip install -e .[dev]')
    from run_notebook import run_notebook, shrink_outputs

    ran = run_notebook(TOUR, tmp_path, TOUR_QUICK='1', OMP_NUM_THREADS='1')
    for cell in [cell for cell in ran.cells if cell.cell_type == 'code']:
        assert cell.execution_count and len(pictures_of(cell)) == ('alt' in cell.metadata), cell.source
    assert (tmp_path / 'tour' / 'pretraining' / 'epoch_2.pth').is_file()
    texts = [
        output.text
        for cell in shrink_outputs(ran, tmp_path).cells
        for output in cell.get('outputs', ())
        if 'text' in output
    ]
    assert texts and not any(str(tmp_path) in text or '\x1b' in text for text in texts)


def test_the_outputs_that_are_kept_are_small_and_those_of_the_cells():
    assert TOUR.stat().st_size < 1_000_000 and 'parameters' in CODE[1]['metadata']['tags']
    for cell in CODE:
        shown = pictures_of(cell)
        assert len(shown) == ('alt' in cell['metadata']), ''.join(cell['source'])
        for output in shown:
            picture = Image.open(io.BytesIO(base64.b64decode(output['data']['image/jpeg'])))
            assert 200 < picture.width <= 900
        assert {output['output_type'] for output in cell['outputs']} <= {'stream', 'display_data'}
    text = ''.join(line for cell in CELLS for line in cell['source'])
    printed = ''.join(line for cell in CODE for output in cell['outputs'] for line in output.get('text', ()))
    assert not re.search(r'https?://|/(tmp|home|root|work)/', text + printed)


@pytest.mark.parametrize('beside', ['wheel', 'checkout', 'nothing', 'installed'])
def test_the_first_cell_installs_the_package_where_it_is_missing(tmp_path, monkeypatch, beside):
    called, source = [], ''.join(CODE[0]['source'])
    (tmp_path / 'docs').mkdir()
    monkeypatch.chdir(tmp_path / 'docs')
    if beside == 'wheel':
        (tmp_path / 'docs' / 'mae_toolkit-0.1.0-py3-none-any.whl').touch()
    if beside in ('wheel', 'checkout'):
        (tmp_path / 'mae_toolkit').mkdir()
        (tmp_path / 'mae_toolkit' / '__init__.py').touch()
    monkeypatch.setattr('importlib.util.find_spec', lambda name: object() if beside == 'installed' else None)
    with mock.patch.object(subprocess, 'check_call', called.append):
        if beside == 'nothing':
            with pytest.raises(SystemExit, match='Put the wheel of mae_toolkit beside this notebook'):
                exec(source, {})
        else:
            exec(source, {})
    wanted = {'wheel': 'mae_toolkit-0.1.0-py3-none-any.whl', 'checkout': tmp_path.name}
    assert [os.path.basename(command[-1]) for command in called] == ([wanted[beside]] if beside in wanted else [])
