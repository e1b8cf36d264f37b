"""WatchHook: what an encoder is worth from step 0 on, its best weights, and its warnings."""

import copy
import json
import logging

import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from engine_toys import ToyImages, loader
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.engine.hooks import WatchHook
from mae_toolkit.engine.watch_clock import WatchClock
from mae_toolkit.engine.watch_record import WatchRecord, make_record, read_watch
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.labeled_images import load_batches, load_labeled_images
from mae_toolkit.evaluation.quality import measure_labeled, measure_unlabeled
from mae_toolkit.visualization import read_scalars
from mae_toolkit.visualization.watch_curve import _choose_limits
from small_cnn import SHAPE, cnn_runner, make_model

WATCH = {'type': 'WatchHook', 'interval': 5, 'images': 8, 'from_scratch': False}
EVERY = {'interval': 1, 'by_epoch': False}


class RealImages(ToyImages):
    """Images as those of ImageDataset, which say that they are not broken."""

    def __getitem__(self, key):
        return super().__getitem__(key) | {'broken': []}


def runner(work_dir, hooks=(WATCH,), **kwargs):
    torch.manual_seed(0)
    return cnn_runner(work_dir, hooks, **{'train_dataloader': loader(RealImages(12, shape=SHAPE))} | kwargs)


@pytest.fixture
def labeled(tmp_path):
    """Dark and bright images, which any encoder tells apart."""
    for split, count in (('train', 6), ('test', 3)):
        for name, value in (('dark', 20), ('bright', 230)):
            folder = tmp_path / 'labeled' / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.new('RGB', (40, 36), (value, value, (value + 9 * i) % 256)).save(folder / f'{i}.png')
    return tmp_path / 'labeled'


def test_labeled_images_have_the_size_and_classes_of_the_training(labeled):
    images = load_labeled_images(labeled, (32, 32), 3, 8)
    assert [len(batch['imgs']) for batch in (*images.train, *images.test)] == [8, 6]
    assert images.train[0]['imgs'].shape[1:] == (3, 32, 32)
    assert images.train[0]['labels'].tolist() == [0] * 4 + [1] * 4  # at equal distances, so of both classes
    values = measure_labeled(make_model(), images)
    assert values['knn'] == 100 and 1 <= values['effective_rank'] <= 8
    whole = load_labeled_images(labeled / 'train', (32, 32), 3, 100)  # no split: one in four is classified
    assert sum(len(batch['imgs']) for batch in whole.test) == 3
    assert {label for batch in whole.test for label in batch['labels'].tolist()} == {0, 1}


def test_folders_without_labels_are_refused(tmp_path, labeled):
    with pytest.raises(UserError, match='There is no folder'):
        load_labeled_images(tmp_path / 'none', (32, 32), 3, 8)
    with pytest.raises(UserError, match='in no class folder'):
        load_labeled_images(labeled / 'train' / 'dark', (32, 32), 3, 8)


def test_measures_without_labels_are_the_same_each_time_and_change_nothing():
    model, images = make_model(), RealImages(12, shape=SHAPE)
    model.encoder.eval()
    modes, before = [m.training for m in model.modules()], copy.deepcopy(model.state_dict())
    batches = load_batches(images, 8)
    torch.manual_seed(3)
    first = measure_unlabeled(model, batches)
    drawn = torch.rand(1)
    torch.manual_seed(3)
    assert torch.equal(drawn, torch.rand(1)) and first == measure_unlabeled(model, batches)
    assert modes == [m.training for m in model.modules()]
    assert all(torch.equal(before[name], t) for name, t in model.state_dict().items())
    assert first.keys() == {'patch_knn', 'effective_rank', 'patch_effective_rank'}
    assert first != measure_unlabeled(model, batches, seed=1)


def test_a_run_is_measured_from_its_start_to_its_end(tmp_path, monkeypatch):
    monkeypatch.setattr(WatchRecord, 'chance', lambda *_: 0.0)
    run = runner(tmp_path)
    run.train()
    record = read_watch(tmp_path)
    assert [row['step'] for row in record.rows] == [0, 1, 5, 10, 12]  # a tenth of 12 is 1
    assert record.measure == 'patch_knn' and record.images == 8
    scalars = read_scalars(tmp_path)
    assert scalars['watch/patch_knn'] == {row['step']: row['patch_knn'] for row in record.rows}
    assert scalars['watch/effective_rank'].keys() == scalars['watch/patch_knn'].keys()
    best = max(reversed(record.rows), key=lambda row: row['patch_knn'])
    assert record.best == best
    assert [path.name for path in tmp_path.glob('best_*.pth')] == [f'best_watch_iter_{best["step"]}.pth']
    content = json.loads((tmp_path / 'watch.json').read_text())
    assert content['summary'] == record.describe() and content['is_worse'] in (True, False)
    assert Image.open(tmp_path / 'watch.png').size == (700, 400)
    assert len(record.make_table()) == 7 and 'not encoders' in record.make_table()[-1]
    assert record.make_table()[1 + record.rows.index(best)].endswith('best')


@pytest.mark.slow
def test_training_is_the_same_with_and_without(tmp_path):
    watched = runner(tmp_path / 'a').train().state_dict()
    plain = runner(tmp_path / 'b', hooks=()).train().state_dict()
    assert all(torch.equal(watched[name], plain[name]) for name in plain)


def test_weights_of_the_best_step_are_kept_also_those_of_the_start(tmp_path, monkeypatch):
    monkeypatch.setattr(WatchRecord, 'chance', lambda *_: 0.5)
    values = iter([50.0, 40.0, 60.0, 59.0, 30.0])
    monkeypatch.setattr(WatchHook, '_measure', lambda *_: {'patch_knn': next(values), 'effective_rank': 3.0})
    states, start = {}, runner(tmp_path / 'none').model.state_dict()
    save = type(runner(tmp_path / 'none')).save_checkpoint

    def note(self, folder, name, *args, **kwargs):
        states[name] = copy.deepcopy(self.model.state_dict())
        return save(self, folder, name, *args, **kwargs)

    monkeypatch.setattr('mae_toolkit.engine.runner.Runner.save_checkpoint', note)
    run = runner(tmp_path / 'a')
    run.train()
    assert [name for name in states if name.startswith('best')] == ['best_watch_iter_0.pth', 'best_watch_iter_5.pth']
    assert [path.name for path in (tmp_path / 'a').glob('best_*')] == ['best_watch_iter_5.pth']
    saved = load(tmp_path / 'a' / 'best_watch_iter_5.pth')
    assert saved['meta']['iter'] == 5 and 'optimizer' not in saved
    assert all(torch.equal(saved['state_dict'][n], t) for n, t in states['best_watch_iter_5.pth'].items())
    assert all(torch.equal(start[n], t) for n, t in states['best_watch_iter_0.pth'].items())


def test_the_best_weights_are_the_trained_ones_that_were_measured_not_their_average(tmp_path, monkeypatch):
    values = iter([50.0, 60.0, 40.0, 40.0, 40.0])
    monkeypatch.setattr(WatchHook, '_measure', lambda *_: {'patch_knn': next(values), 'effective_rank': 3.0})
    trained = {}
    keep = WatchHook._keep_weights

    def note(self, run, step):
        trained[step] = {name: value.detach().clone() for name, value in run.model.named_parameters()}
        keep(self, run, step)

    monkeypatch.setattr(WatchHook, '_keep_weights', note)
    run = runner(tmp_path / 'a', (WATCH, {'type': 'EMAHook', 'momentum': 0.01}))
    run.train()
    (path,) = (tmp_path / 'a').glob('best_watch_iter_*.pth')
    saved, step = load(path), int(path.stem.rpartition('_')[2])
    assert step and 'ema_state_dict' not in saved
    assert all(torch.equal(saved['state_dict'][name], value) for name, value in trained[step].items())
    assert 'ema_state_dict' in load(newest_checkpoint(tmp_path / 'a'))  # other checkpoints hold both


def test_a_run_that_harms_says_so_after_a_tenth_and_at_its_end(tmp_path, monkeypatch, caplog):
    values = iter([80.0, 20.0, 30.0, 30.0, 30.0])
    monkeypatch.setattr(WatchHook, '_measure', lambda *_: {'patch_knn': next(values), 'effective_rank': 3.0})
    run = runner(tmp_path, hooks=[WATCH, {'type': 'FreezeEncoderHook', 'steps': 0}])
    run.logger.addHandler(caplog.handler)
    run.train()
    warnings = [
        r.getMessage() for r in caplog.records if r.levelno == logging.WARNING and 'WatchHook' in r.getMessage()
    ]
    assert len(warnings) == 2
    assert 'patch kNN % 80.0 at step 0, 20.0 at step 1 (best_watch_iter_0.pth)' in warnings[0]
    for warning in warnings:
        assert 'learning rate (now 0.01)' in warning and 'wait longer' in warning and 'norm_eval=True' in warning
    assert '30.0 at step 12' in warnings[1]
    assert (tmp_path / 'best_watch_iter_0.pth').exists()


def test_a_run_from_random_weights_keeps_its_last_ones_and_is_not_warned(tmp_path, monkeypatch, caplog):
    values = iter([90.0, 9.0, 9.0, 9.0, 9.0])
    monkeypatch.setattr(WatchHook, '_measure', lambda *_: {'patch_knn': next(values), 'effective_rank': 3.0})
    run = runner(tmp_path, [WATCH | {'from_scratch': None}])
    run.logger.addHandler(caplog.handler)
    run.train()
    record = read_watch(tmp_path)
    assert record.from_scratch and record.checkpoint is None and record.is_worse()
    assert not list(tmp_path.glob('best_*')) and 'worse' not in caplog.text


@pytest.mark.slow
def test_a_resumed_run_goes_on_with_its_record(tmp_path):
    runner(tmp_path / 'a', checkpoint=EVERY).train()
    whole = read_watch(tmp_path / 'a')
    start = dict(load_from=str(tmp_path / 'a/iter_4.pth'), resume=True)
    runner(tmp_path / 'b', checkpoint=EVERY, **start).train()
    resumed = read_watch(tmp_path / 'b')
    assert (resumed.rows, resumed.best_step, resumed.interval) == (whole.rows, whole.best_step, whole.interval)
    longer = dict(load_from=str(tmp_path / 'a/iter_12.pth'), resume=True, epochs=3)
    runner(tmp_path / 'c', [WATCH | {'interval': None}], **longer).train()
    assert [row['step'] for row in read_watch(tmp_path / 'c').rows][-1] == 18
    last = load(tmp_path / 'a/iter_12.pth')['message_hub']['runtime_info']['watch']
    assert make_record(last).rows == whole.rows  # the last measurement is in the last checkpoint


def test_labels_decide_where_there_are_any(tmp_path, labeled):
    runner(
        tmp_path / 'a',
        hooks=[WATCH | {'labels': str(labeled)}, {'type': 'BatchNormStatisticsHook', 'images': 4}],
        epochs=1,
    ).train()
    record = read_watch(tmp_path / 'a')
    assert record.measure == 'knn' and record.rows[0]['knn'] == 100 and record.images == 6


def test_whole_images_are_measured_with_statistics_of_whole_images(tmp_path):
    """The last measurement is that of the trained model, which has them."""
    run = runner(tmp_path, hooks=[WATCH, {'type': 'BatchNormStatisticsHook', 'images': 12}])
    model = run.train()
    values = measure_unlabeled(model, load_batches(RealImages(12, shape=SHAPE), 8))
    last = read_watch(tmp_path).rows[-1]
    assert {name: last[name] for name in values} == pytest.approx(values)


@pytest.mark.parametrize(('images', 'epochs', 'expected'), [(512, 100, 512), (512, 2, 64), (100, 100, 100)])
def test_short_trainings_are_measured_on_fewer_images(tmp_path, images, epochs, expected):
    hook, run = WatchHook(images=images), runner(tmp_path, epochs=epochs)
    run.train_loop._max_iters = epochs * 1000
    assert hook._count_images(run) == expected


def test_the_time_for_the_watch_is_bounded(tmp_path):
    hook, run = WatchHook(images=64), runner(tmp_path)
    run.train_loop._max_iters = 100_000  # of two images each
    hook._labeled, hook._batches = None, [{'imgs': torch.zeros(64, 3, 4, 4)}]
    record = hook._make_record(run)
    measured = sum(record.is_due(step) for step in range(100_001))
    assert measured * 2 * 64 <= 0.03 * 200_000 * 1.1 and measured > 40


def test_worse_is_what_chance_does_not_explain():
    record = WatchRecord('knn', 100, 1000, 100)
    record.add(0, {'knn': 50.0, 'effective_rank': 40.0})
    record.add(10, {'knn': 46.0, 'effective_rank': 15.0})  # the standard error is 5
    assert not record.is_worse() and record.is_collapsing()
    record.add(20, {'knn': 44.0, 'effective_rank': 30.0})
    assert record.is_worse() and not record.is_collapsing()
    record.add(30, {'knn': float('nan'), 'effective_rank': 30.0})
    assert record.is_worse() and record.best_step == 0 and record.tenth == 100


def test_without_labels_the_latest_of_nearly_equal_steps_is_kept():
    for measure, kept in (('patch_knn', [0, 1, 2, 4]), ('knn', [0, 1])):
        record = WatchRecord(measure, 100, 1000, 100)  # a standard error of 5
        values = [50.0, 55.0, 51.0, 45.0, 51.0]
        assert [i for i, v in enumerate(values) if record.add(i, {measure: v, 'effective_rank': 9.0})] == kept
        assert record.best_step == kept[-1]


def test_what_chance_explains_is_said():
    def describe(*values, measure='patch_knn'):
        record = WatchRecord(measure, 100, 1000, 100)  # a standard error of 5
        for step, value in enumerate(values):
            if record.add(step, {measure: value, 'effective_rank': 9.0}):
                record.checkpoint = f'best_watch_iter_{step}.pth'
        return record.describe()

    latest = 'iter_2.pth, the latest within chance, ±5.0, of the greatest value, 55.0)'
    assert describe(50.0, 55.0, 51.0).endswith(latest)
    assert describe(50.0, 53.0, 40.0).endswith('iter_1.pth, no more above the start than chance, ±5.0)')
    assert describe(50.0, 70.0, 40.0).endswith('(best_watch_iter_1.pth)')
    assert describe(50.0, 40.0, 30.0).endswith('(best_watch_iter_0.pth)')
    assert 'no more above' in describe(50.0, 51.0, measure='knn')


def test_the_axis_of_the_curve_spans_ten_points_at_least():
    low, high = _choose_limits([60.0, 60.3, float('nan'), 59.9])
    assert high - low == pytest.approx(10) and low < 59.9 and high > 60.3
    assert _choose_limits([0.5, 1.0]) == (0.0, 10.0) and _choose_limits([99.0, 100.0]) == (90.0, 100.0)
    low, high = _choose_limits([20.0, 70.0])
    assert low == pytest.approx(17.5) and high == pytest.approx(72.5)


def test_a_tenth_begins_when_the_encoder_trains(tmp_path):
    hook = WatchHook()
    run = runner(tmp_path, hooks=[{'type': 'FreezeEncoderHook', 'steps': 20}], wrapper={'accumulative_counts': 2})
    run.optim_wrapper = run.build_optim_wrapper(run.optim_wrapper)
    run.train_loop._max_iters = 1000
    hook._labeled, hook._batches = None, [{'imgs': torch.zeros(8, 3, 4, 4)}]
    assert hook._make_record(run).tenth == 40 + 96


@pytest.mark.parametrize(
    'content',
    [
        '[]',
        '{',
        '{"measure": "knn"}',
        '{"rows": [{"step": 0}], "measure": "knn", "images": 1, "iterations": 1, "interval": 1}',
    ],
)
def test_a_damaged_record_is_refused(tmp_path, content):
    assert read_watch(tmp_path) is None
    (tmp_path / 'watch.json').write_text(content)
    with pytest.raises(UserError, match=r'watch\.json is damaged'):
        read_watch(tmp_path)


@pytest.mark.parametrize('wrong', [{'share': 2}, {'images': 0}, {'interval': 0}, {'interval': -1}, {'seed': -1}])
def test_numbers_out_of_range_are_refused(wrong):
    with pytest.raises(UserError, match='WatchHook: '):
        WatchHook(**wrong)


def test_an_interval_may_count_epochs(tmp_path):
    runner(tmp_path, hooks=[WATCH | {'interval': 1, 'by_epoch': True}], epochs=3).train()
    assert [row['step'] for row in read_watch(tmp_path).rows] == [0, 2, 6, 12, 18]  # a tenth of 18 is 2
    with pytest.raises(UserError, match='no interval is set'):
        WatchHook(by_epoch=True)


def test_measures_are_in_the_log_and_in_tensorboard(tmp_path):
    backends = [{'type': 'LocalVisBackend'}, {'type': 'TensorboardVisBackend'}]
    run = runner(tmp_path, visualizer={'type': 'Visualizer', 'vis_backends': backends})
    run.train()
    rows = read_watch(tmp_path).rows
    (file,) = tmp_path.glob('*/vis_data/scalars.json')
    logged = [row for row in map(json.loads, file.read_text().splitlines()) if 'watch/patch_knn' in row]
    assert [row['step'] for row in logged] == [row['step'] for row in rows]
    for backend in run.visualizer._vis_backends.values():
        backend.close()
    events = EventAccumulator(str(file.parent))
    events.Reload()
    for name in ('patch_knn', 'effective_rank', 'patch_effective_rank'):
        found = {event.step: event.value for event in events.Scalars(f'watch/{name}')}
        assert found == pytest.approx({row['step']: row[name] for row in rows})


@pytest.mark.slow
def test_what_would_take_too_long_is_left_out_but_for_start_and_end(tmp_path, monkeypatch, caplog):
    """Of an interval that the hook has chosen; whoever sets one gets it. A step takes a second by the test's clock."""
    now, values, after = [0.0], {'patch_knn': 1.0, 'effective_rank': 3.0}, WatchHook.after_train_iter

    def tick(seconds):
        now[0] += seconds

    monkeypatch.setattr('mae_toolkit.engine.watch_clock.perf_counter', lambda: now[0])
    monkeypatch.setattr(WatchHook, 'after_train_iter', lambda *args, **kwargs: tick(1) or after(*args, **kwargs))
    for name, seconds, hook, steps in (
        ('own', 0.5, {}, [0, 1, 5, 10, 12]),
        ('chosen', 0.5, {'interval': None}, [0, 12]),
        ('continued', 0.5, {'interval': None, 'from_scratch': False}, [0, 1, 12]),
        ('generous', 0.5, {'interval': None, 'share': 1.0}, [0, 1, 4, 8, 12]),
    ):
        monkeypatch.setattr(WatchHook, '_measure', lambda *_, seconds=seconds: tick(seconds) or values)
        run = runner(tmp_path / name, hooks=[WATCH | {'from_scratch': True} | hook])
        run.logger.addHandler(caplog.handler)
        run.train()
        assert [row['step'] for row in read_watch(tmp_path / name).rows] == steps, name
    said = [record.getMessage() for record in caplog.records if 'measurements of' in record.getMessage()]
    assert 'more than share=0.03' in said[0] and 'left out' not in said[0]
    assert 'left out to stay within share=0.03' in said[1] and 'more than' not in said[3]


def test_the_clock_spreads_what_may_be_left_out(monkeypatch):
    now = 0.0
    monkeypatch.setattr('mae_toolkit.engine.watch_clock.perf_counter', lambda: now)
    clock = WatchClock(0.1)
    with clock.load():
        now += 2
    with clock.measure(is_optional=False):
        now += 1
    made = []
    for step in range(1, 100):
        now += 1  # 100 s, of which 10 are allowed: 4 for what was and the last one, so 6 are left
        if clock.allows(step / 100, 1):
            made.append(step)
            with clock.measure(is_optional=True):
                now += 1
    assert made == [17, 34, 50, 67, 84]
    now += 1
    with clock.measure(is_optional=False):
        now += 1
    assert clock.measurements == 7 and clock.left_out == 94 and clock.taken == pytest.approx(9 / 109)
    assert clock.describe().startswith(
        '7 measurements of 1 s and 2 s to load the images took 8.3% of the time; 94 were'
    )
