"""What is said of the curve of a metric."""

import math
from types import SimpleNamespace

import pytest
from matplotlib.axes import Axes
from PIL import Image

from mae_toolkit.engine.hooks import LossCurveHook, loss_curve
from mae_toolkit.engine.minutes import TimedLength
from mae_toolkit.evaluation.learning_curve import LearningCurve, describe_curve
from mae_toolkit.planning.finetuning import fit_length
from mae_toolkit.visualization import draw_losses, draw_metrics


@pytest.mark.parametrize(
    ('values', 'words'),
    [
        (
            [0.1, 0.2, 0.3, 0.4, 0.5, 0.6],
            ['0.1 at step 0', '0.6 at its best (step 50)', 'still rising', 'train longer'],
        ),
        ([0.1, 0.5, 0.6, 0.6, 0.601, 0.6], ['0.601 at its best (step 40)', 'flat']),
        ([0.1, 0.6, 0.55, 0.5, 0.45, 0.4], ['0.4 at the end', 'got worse after step 10', '--patience']),
        ([0.1, 0.6], ['Too few', ': 2.']),
        ([0.0, 0.0, 0.0, 0.0], ['flat', 'its best (step 30)']),
    ],
)
def test_a_curve_is_described(values, words):
    text = ' '.join(describe_curve(LearningCurve({10 * i: value for i, value in enumerate(values)}), 'mIoU'))
    assert text.startswith('mIoU: ') and all(word in text for word in words), text


def test_losses_that_coincide_are_drawn_once_and_metrics_apart(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr('matplotlib.axes.Axes.plot', lambda axes, *values, label, **_: drawn.append(label))
    loss = {1: 0.5, 2: 0.4}
    series = {
        'train/loss': loss,
        'train/decode.loss_ce': loss,
        'val/mIoU': {2: 30.0},
        'val/time': {2: 1.0},
        'lr': {1: 1},
    }
    assert draw_losses(series, tmp_path / 'loss.png') and drawn == ['train/decode.loss_ce']
    drawn.clear()
    series['val/coco/bbox_mAP_s'] = {2: -1.0}  # no small object
    assert draw_metrics(series, tmp_path / 'metric.png', best='mIoU') and drawn == ['mIoU']
    assert not draw_metrics({'train/loss': loss, 'val/loss': loss}, tmp_path / 'none.png')
    assert not (tmp_path / 'none.png').exists()


def test_what_a_watch_has_measured_is_drawn_below_the_losses(tmp_path, monkeypatch):
    drawn, plot = {}, Axes.plot

    def note(axes, *values, label, **style):
        drawn[label] = axes
        return plot(axes, *values, label=label, **style)

    monkeypatch.setattr('matplotlib.axes.Axes.plot', note)
    watched = {
        f'watch/{name}': {0: 10.0, 5: 40.0} for name in ('knn', 'knn_level1', 'effective_rank', 'patch_effective_rank')
    }
    assert draw_losses({'train/loss': {1: 0.5, 2: 0.4}} | watched, tmp_path / 'loss.png')
    assert Image.open(tmp_path / 'loss.png').size == (700, 700)
    above, left, right = (drawn[name] for name in ('train/loss', 'knn', 'effective_rank'))
    assert len({above, left, right}) == 3 and drawn['knn_level1'] is left and drawn['patch_effective_rank'] is right
    assert above.get_xlim() == left.get_xlim() and left.get_ylim()[0] <= 10 and left.get_ylim()[1] >= 40
    assert not draw_losses(watched, tmp_path / 'none.png')  # no training


@pytest.mark.parametrize(('seconds', 'count'), [(0, 3), (math.inf, 1)])
def test_curves_are_drawn_after_validations_some_time_apart_and_at_the_end(seconds, count, tmp_path, monkeypatch):
    drawn, hook = [], LossCurveHook(seconds=seconds)
    monkeypatch.setattr(loss_curve, 'draw_losses', lambda *args: drawn.append(args))
    runner = SimpleNamespace(work_dir=str(tmp_path), iter=4, hooks=[])
    hook.before_train(runner)
    for _ in range(2):
        hook.after_val_epoch(runner)
    hook.after_train(runner)
    assert len(drawn) == count
    runner.iter = 0  # a test without training
    LossCurveHook(seconds=0).after_val_epoch(runner)
    assert len(drawn) == count


def test_minutes_are_for_steps_and_validations_take_a_quarter_at_most():
    knobs = fit_length(TimedLength(10, 0, 5, 1.0, 2.0), 600, 10, True)
    assert (
        knobs['steps'].value == 550 and knobs['validations'].value == 10 and '--minutes 10, ' in knobs['steps'].reason
    )
    knobs = fit_length(TimedLength(10, 0, 5, 1.0, 60.0), 600, 10, True)
    assert knobs['steps'].value == 450 and knobs['validations'].value == 2 and 'quarter' in knobs['validations'].reason
    assert fit_length(TimedLength(10, 0, 5, 1.0, 2.0), 600, 10, False)['epochs'].value == 110
    few = fit_length(TimedLength(10, 0, 500, 1.0, 2.0), 600, 10, False)
    assert (few['epochs'].value, few['label_fraction'].value) == (2, 0.55)  # 550 steps in all
