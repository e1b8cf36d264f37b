"""tools/analyze_logs.py: curves and numbers of several runs."""

import io
import json
import math

import numpy as np
import pytest
from PIL import Image

from mae_toolkit.apis.log_analysis import analyze_logs
from mae_toolkit.errors import UserError
from mae_toolkit.run_files import RunFile, write_run
from mae_toolkit.visualization.run_curves import draw_runs
from mae_toolkit.visualization.run_logs import find_keys, read_run_log, read_run_logs, smooth
from tiny import call, refuse


def write_logs(folder, rows, start='20260101_000000', ranks=()):
    path = folder / start / 'vis_data'
    path.mkdir(parents=True)
    (path / 'scalars.json').write_text(''.join(json.dumps(row) + '\n' for row in rows))
    if ranks:
        (path / 'ranks.jsonl').write_text(''.join(json.dumps(row) + '\n' for row in ranks))
    return folder


def speed(step, seconds, data=0.25, rate=64.0):
    return {
        'speed/step_time': seconds, 'speed/data_time': data, 'speed/images_per_s': rate,
        'speed/peak_share': 0.5, 'speed/memory_gb': 3.0 + step / 1000, 'step': step,
    }  # fmt: skip


@pytest.fixture
def runs(tmp_path):
    """A resumed run that knows its speed, and an old one."""
    first = [{'train/loss': 3.0, 'epoch': 1, 'step': 10}, speed(10, 1.0), {'train/loss': 2.0, 'epoch': 2, 'step': 20}]
    first += [speed(20, 1.0), {'train/loss': 9.0, 'epoch': 2, 'step': 30}, speed(30, 9.0)]
    again = [{'train/loss': 1.5, 'epoch': 3, 'step': 30}, speed(30, 2.0, rate=32.0)]
    again += [{'val/loss_pixel': 1.25, 'step': 30}, {'train/loss': 1.0, 'epoch': 3, 'step': 35}, speed(35, 2.0)]
    host = ['n1', 'n2']
    ranks = [{'step': step, 'host': host, 'stragglers': [1] if step > 10 else []} for step in (10, 20, 30)]
    new = write_logs(tmp_path / 'x' / 'run', first, ranks=ranks)
    write_logs(new, again, '20260102_000000', [{'step': 30, 'host': host, 'stragglers': []}])
    (new / '20260102_000000' / 'vis_data' / 'ranks.jsonl').open('a').write(
        '{}\n[]\n{"step": 35, "ho'
    )  # of a killed run
    old = [
        {'train/loss': 4.0 - step / 10, 'train/time': 0.5, 'train/data_time': 0.1, 'step': step} for step in (10, 20)
    ]
    write_logs(tmp_path / 'y' / 'run', [*old, {'val/loss_pixel': 2.0, 'val/loss_token': 1.0, 'step': 20}])
    return tmp_path / 'x' / 'run', tmp_path / 'y' / 'run'


def test_the_numbers_of_joined_runs(runs):
    new, old = analyze_logs(runs, ['loss', 'val/loss_token'])
    assert (new.run, old.run) == ('x/run', 'y/run')
    assert (new.iterations, new.starts, old.iterations, old.starts) == (35, 2, 20, 1)
    seconds = 10 + 10 + 10 * 2 + 5 * 2
    assert new.hours == pytest.approx(seconds / 3600) and old.hours == pytest.approx(10 / 3600)
    assert new.step_time == pytest.approx(seconds / 35) and old.step_time == pytest.approx(0.5)
    assert new.data_share == pytest.approx(0.25 * 35 / seconds) and old.data_share == pytest.approx(0.2)
    assert new.images_per_s == pytest.approx((64 * 30 + 32 * 20) / seconds) and old.images_per_s is None
    assert (new.peak_share, old.peak_share, new.memory_gb) == (pytest.approx(0.5), None, pytest.approx(3.035))
    assert new.last == {'loss': 1.0, 'val/loss_token': None}
    assert old.last == {'loss': 2.0, 'val/loss_token': 1.0}
    assert new.stragglers == {'rank 1 on n2': 0.5}


def test_axes(runs):
    new, old = read_run_logs(runs)
    assert new.convert_steps([5, 30, 35, 40], 'hours') == pytest.approx([5 / 3600, 40 / 3600, 50 / 3600, 50 / 3600])
    assert new.convert_steps([10, 30], 'epochs') == pytest.approx([10 / new.iterations_per_epoch, 30 / (35 / 3)], abs=1)
    with pytest.raises(UserError, match='did not log its epochs'):
        old.convert_steps([1], 'epochs')
    with pytest.raises(UserError, match='did not log the time'):
        read_run_log(write_logs(runs[0].parent / 'z', [{'a': 1.0, 'step': 1}])).convert_steps([1], 'hours')


def test_epochs_of_a_run_that_noted_their_length(runs):
    write_run(runs[0], RunFile('', '', 100, iterations_per_epoch=5))
    assert read_run_log(runs[0]).convert_steps([5, 10], 'epochs') == [1.0, 2.0]


def test_keys(runs):
    logs = read_run_logs(runs)
    assert find_keys(logs, 'loss') == find_keys(logs, 'train/loss') == {'x/run': 'train/loss', 'y/run': 'train/loss'}
    assert find_keys(logs, 'images_per_s') == {'x/run': 'speed/images_per_s'}
    with pytest.raises(UserError, match=r"'speed/step_tim'; did you mean .*speed/step_time"):
        find_keys(logs, 'speed/step_tim')
    both = read_run_log(write_logs(runs[0].parent / 'z', [{'val/a': 1.0, 'test/a': 2.0, 'step': 1}]))
    with pytest.raises(UserError, match='several values: give one of test/a, val/a'):
        find_keys([both], 'a')


def test_smoothing():
    assert smooth([1.0, 1.0, 1.0], 0.9) == pytest.approx([1.0, 1.0, 1.0])
    assert smooth([1.0, 3.0], 0.5) == pytest.approx([1.0, (0.25 * 1 + 0.5 * 3) / 0.75])
    assert smooth([1.0, 3.0], 0.0) == [1.0, 3.0]
    held = smooth([1.0, math.nan, 3.0], 0.5)
    assert math.isnan(held[1]) and held[2] == pytest.approx((0.25 * 1 + 0.5 * 3) / 0.75)


def draw(*args, **kwargs):
    picture = io.BytesIO()
    draw_runs(*args, picture, **kwargs)
    return np.asarray(Image.open(picture).convert('RGB')).astype(int)


def count(pixels, color):
    return int((np.abs(pixels - np.array(color)).sum(-1) < 30).sum())


BLUE, ORANGE = (31, 119, 180), (255, 127, 14)


def test_each_run_is_a_curve_of_its_color(runs):
    logs = read_run_logs(runs)
    both, first = draw(logs, ['loss']), draw(logs[:1], ['loss'])
    assert count(both, BLUE) > 300 and count(both, ORANGE) > 300
    assert count(first, BLUE) > 300 and count(first, ORANGE) == 0
    only = draw(logs, ['val/loss_token'])  # the first run has none
    assert count(only, BLUE) == 0 and count(only, ORANGE) > 0
    four = draw(logs, ['loss', 'val/loss_pixel', 'speed/step_time', 'speed/memory_gb'], axis='hours')
    assert four.shape[0] > 1.5 * both.shape[0] and four.shape[1] > 1.5 * both.shape[1]


def test_only_long_curves_are_smoothed(tmp_path):
    def make(name, steps):
        rows = [{'train/loss': 2.0 + step % 2, 'step': step} for step in range(1, steps + 1)]
        return [read_run_log(write_logs(tmp_path / name, rows))]

    long, short = make('long', 40), make('short', 20)
    assert not np.array_equal(draw(long, ['loss'], weight=0.9), draw(long, ['loss']))
    assert np.array_equal(draw(short, ['loss'], weight=0.9), draw(short, ['loss']))


def test_the_tool(runs, tmp_path):
    out = tmp_path / 'curves.png'
    status, text = call('analyze_logs', *runs, '--keys', 'loss', '--out', out, '--x', 'hours', '--smooth', 0.5)
    assert status == 0 and Image.open(out).size[0] > 500
    new, old, slow = text.strip().splitlines()[-3:]
    assert new.split() == ['x/run', '35', '2', '0.01', '1.429', '18%', '51', '50.0%', '3.0', '1']
    assert old.split() == ['y/run', '20', '1', '0.00', '0.500', '20%', '-', '-', '-', '2']
    assert slow == 'x/run: rank 1 on n2 was slow in 50% of the intervals'
    assert 'curves.png' in refuse('analyze_logs', *runs, '--out', out, plain=True)
    assert call('analyze_logs', *runs, '--out', out, '--force')[0] == 0
    (row,) = json.loads(call('analyze_logs', runs[0], '--json')[1])
    assert row['last'] == {'loss': 1.0} and row['stragglers'] == {'rank 1 on n2': 0.5}


def test_mistakes(runs, tmp_path):
    assert 'There is no run' in refuse('analyze_logs', tmp_path / 'lost', plain=True)
    assert 'given twice' in refuse('analyze_logs', runs[0], runs[0], plain=True)
    assert 'did you mean' in refuse('analyze_logs', runs[0], '--keys', 'los', plain=True)
    empty = write_logs(tmp_path / 'empty', [])
    assert 'holds no logged values' in refuse('analyze_logs', empty, plain=True)
    out = tmp_path / 'none.png'
    assert 'did not log its epochs' in refuse('analyze_logs', runs[1], '--x', 'epochs', '--out', out, plain=True)
    assert not out.exists()
    status, text = call('analyze_logs', runs[0], '--smooth', '1')
    assert status == 2 and '1 is not a number from 0 to below 1' in text
