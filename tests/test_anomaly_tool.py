"""tools/anomaly.py, as a user calls it."""

import json

import numpy as np
import pytest
from PIL import Image

from anomaly_sets import make_things, write_normal
from mae_toolkit.visualization.grid import GAP
from mae_toolkit.visualization.heat_map import draw_heat_beside_truth
from tiny import refuse, run_here


@pytest.fixture(scope='module')
def things(tmp_path_factory):
    return make_things(tmp_path_factory.mktemp('things'))


@pytest.mark.slow
def test_fit_score_evaluate(things, tmp_path):
    bottle, file = things / 'bottle', tmp_path / 'bottle.safetensors'
    common = '--device', 'cpu'
    methods = '--methods', 'patchcore', 'reconstruction', '--run', things / 'model', '--size', 64, 48
    settings = '--settings', 'coreset=0.5', 'levels=2', 'masks=3'
    fit = 'fit', things / 'encoder', bottle, '--out', file, '--smooth', 1, *methods, *common, *settings
    text = run_here('anomaly', *fit, plain=True)
    assert 'patchcore and reconstruction, fitted on 10 normal images' in text
    assert 'percentile 95 of 2 normal images, held out' in text
    run_here('anomaly', *fit, plain=True)  # its own file may be replaced

    text = run_here('anomaly', 'evaluate', file, bottle, '--out', tmp_path / 'measured.json', *common, plain=True)
    measured = json.loads((tmp_path / 'measured.json').read_text())['measured']['bottle']
    assert 'bottle: 4 normal, 4 defective' in text and f'{measured["aupro_0.05"]:.4f}' in text

    picture = tmp_path / 'heat.png'
    show = 'show', file, bottle, '--measured', tmp_path / 'measured.json', '--out', picture, '--images', 3, *common
    run_here('anomaly', *show, plain=True)
    assert Image.open(picture).size[1] > 3 * 320
    show = [*show, '--measured', things / 'lost.json']
    assert 'lost.json has no pixel AUROC' in refuse('anomaly', *show, plain=True)
    assert 'ending in .png' in refuse('anomaly', *show, '--out', tmp_path / 'heat.txt', plain=True)

    out = tmp_path / 'found'
    text = run_here('anomaly', 'score', file, bottle / 'test' / 'cut', '--out', out, *common, plain=True)
    assert '4 anomalous images of 4' in text
    record = json.loads((out / 'anomalies.json').read_text())
    assert len(list(out.glob('*_map.png'))) == 4 and all(one['boxes'] for one in record['images'])


def test_images_that_cannot_be_read_are_not_counted(things, tmp_path):
    write_normal(tmp_path / 'normal', 4)
    (tmp_path / 'normal' / '001.png').write_bytes(b'no image')
    fit = 'fit', things / 'encoder', tmp_path / 'normal', '--out', tmp_path / 'three.safetensors', '--device', 'cpu'
    assert 'fitted on 3 normal images' in run_here('anomaly', *fit, plain=True)


def test_few_images_have_no_thresholds(things, tmp_path):
    fit = 'fit', things / 'encoder', things / 'bottle', '--out', tmp_path / 'one.safetensors', '--shots', 1
    text = run_here('anomaly', *fit, '--methods', 'anomalydino', '--device', 'cpu', plain=True)
    assert 'fitted on 1 normal image' in text and 'no thresholds' in text
    evaluate = 'evaluate', tmp_path / 'one.safetensors', things / 'bottle', '--device', 'cpu'
    assert 'max f1          -' in run_here('anomaly', *evaluate, plain=True)


@pytest.mark.parametrize(
    ('arguments', 'said'),
    [
        (('--settings', 'coresett=0.1'), "there is no setting 'coresett'"),
        (('--methods', 'patchcor'), "no method 'patchcor'"),
        (('--size', 1, 2, 3), 'give one number, or height and width'),
        (('--out', 'detector.pt'), 'ending in .safetensors'),
        (('--shots', 99), 'bottle has 12 normal images, and shots=99'),
    ],
)
def test_mistakes_are_one_sentence(things, tmp_path, arguments, said):
    fit = 'fit', things / 'encoder', things / 'bottle', '--out', tmp_path / 'x.safetensors', '--device', 'cpu'
    assert said in refuse('anomaly', *fit, *arguments, plain=True)
    assert not list(tmp_path.iterdir())


def test_heat_and_truth_lie_where_they_are():
    """A hot corner in the middle column and a tinted one in the right, at the same place of the image."""
    picture, heat, defect = np.full((40, 40, 3), 128, np.uint8), np.zeros((4, 4)), np.zeros((40, 40), bool)
    heat[:2, :2], defect[:20, :20] = 2.0, True
    drawn = np.asarray(draw_heat_beside_truth([picture], [heat], [defect], 2.0, ('a', 'b', 'c'), 80))
    top = np.flatnonzero((drawn == 128).all(-1).sum(1) > 80)[0] - 1  # below the frame
    columns = [drawn[top : top + 80, GAP + i * (80 + GAP) :][:, :80] for i in range(3)]
    changed = [(one != 128).any(-1) for one in columns]  # a frame of one pixel in the first and the last
    assert not changed[0][1:-1, 1:-1].any()
    assert changed[2][1:39, 1:39].all() and not changed[2][45:-1, 1:-1].any() and not changed[2][1:-1, 45:-1].any()
    heat = columns[1].astype(int).sum(-1)
    assert heat[:20, :20].min() > 600 and heat[60:].max() < 60 and heat[:, 60:].max() < 60
