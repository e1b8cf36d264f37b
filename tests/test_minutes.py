"""A training that takes as many minutes as it is given, and keeps its length."""

import json
import time
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from engine_toys import BATCH, ToyImages, loader, make_runner, val_loader
from mae_toolkit.engine import minutes as timed
from mae_toolkit.engine import timed_steps
from mae_toolkit.engine.minutes import fit_to_minutes, restore_length, set_length
from mae_toolkit.engine.runner import Runner
from mae_toolkit.errors import UserError
from mae_toolkit.planning.minutes import TimeLimit, fit_steps
from mae_toolkit.registry import DATASETS

WARMUP = {'type': 'LinearLR', 'start_factor': 0.01, 'begin': 0, 'end': 5, 'by_epoch': True}
COSINE = {'type': 'CosineAnnealingLR', 'eta_min': 0.0, 'begin': 5, 'by_epoch': True, 'convert_to_iter_based': True}


@DATASETS.register_module(force=True)
class SlowImages(ToyImages):
    """Images that take a hundredth of a second each, by a clock of their own, which no other program slows down."""

    seconds = 0.0

    def __getitem__(self, key):
        SlowImages.seconds += 0.01
        return super().__getitem__(key) | {'broken': []}


def config(tmp_path, **kwargs):
    collate = dict(type='mae_toolkit.image_collate')
    given = dict(
        model=dict(type='ToyAutoencoder'),
        train_dataloader=loader() | dict(dataset=dict(type='SlowImages'), collate_fn=collate),
        val_dataloader=val_loader() | dict(dataset=dict(type='SlowImages', images=6), collate_fn=collate),
        val_cfg=dict(type='MAEValLoop'),
        train_cfg=dict(type='EpochTrainLoop', max_epochs=100, val_interval=50),
        optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2)),
        param_scheduler=[WARMUP | {'convert_to_iter_based': True}, COSINE],
        default_hooks=dict(checkpoint=dict(type='SafeCheckpointHook', interval=1)),
        default_scope='mae_toolkit',
        work_dir=str(tmp_path),
    )
    return Config(given | kwargs)


@pytest.mark.slow
def test_a_training_takes_its_minutes_and_its_schedules_end_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(timed_steps, 'PROBE', 6)
    monkeypatch.setattr(timed, 'time', SimpleNamespace(perf_counter=lambda: SlowImages.seconds))
    cfg = config(tmp_path)
    length = fit_to_minutes(cfg, tmp_path, 0.05)
    assert length.seconds_per_step == pytest.approx(0.01 * BATCH) and length.iterations_per_epoch == 6
    assert not (tmp_path / 'probe').exists()
    runner = Runner.from_cfg(cfg)
    start = SlowImages.seconds
    runner.train()
    assert SlowImages.seconds - start == pytest.approx(3, rel=0.05)
    assert runner.iter == length.steps == runner.max_iters
    assert runner.optim_wrapper.get_lr()['lr'][0] < 1e-2 * 0.01  # the cosine has arrived
    assert (tmp_path / f'epoch_{cfg.train_cfg.max_epochs}.pth').exists()


def test_the_length_is_kept_once_something_is_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(
        timed, 'time_training', lambda cfg, folder, minutes: timed.TimedLength(minutes, int(60 * minutes), 6, 1.0, 0.0)
    )
    first = config(tmp_path)
    assert fit_to_minutes(first, tmp_path, 0.5).steps == 30
    assert fit_to_minutes(config(tmp_path), tmp_path, 0.25).steps == 15  # nothing is trained yet
    torch.save({'state_dict': {}}, tmp_path / 'epoch_1.pth')
    monkeypatch.setattr(timed, 'newest_checkpoint', lambda folder: tmp_path / 'epoch_1.pth')
    again = config(tmp_path)
    assert fit_to_minutes(again, tmp_path, 2.0).steps == 15
    assert again.train_cfg.end_iter == 15
    assert json.loads((tmp_path / 'length.json').read_text())['minutes'] == 0.25
    resumed = config(tmp_path)
    restore_length(resumed, tmp_path)  # without minutes
    restore_length(again, tmp_path)  # of the config that the run has written
    assert resumed.train_cfg == again.train_cfg and resumed.param_scheduler == again.param_scheduler
    (tmp_path / 'length.json').write_text('{"steps": 3}')
    with pytest.raises(UserError, match=r'length\.json is damaged'):
        fit_to_minutes(config(tmp_path), tmp_path, 2.0)


@pytest.mark.parametrize('minutes', [0, -1, 1e6, True, float('nan')])
def test_minutes_that_are_no_time_are_refused(tmp_path, minutes):
    with pytest.raises(UserError, match='is no time to train'):
        fit_to_minutes(config(tmp_path), tmp_path, minutes)


def test_schedules_keep_their_shares(tmp_path):
    steps = {'type': 'MultiStepLR', 'milestones': [50, 80], 'by_epoch': True}
    decay = {'type': 'ExponentialLR', 'gamma': 0.9, 'by_epoch': True}
    whole = {'type': 'CosineAnnealingLR', 'begin': 0, 'end': 100, 'T_max': 100, 'by_epoch': True}
    cfg = config(tmp_path, param_scheduler=[WARMUP, COSINE, steps, decay, whole])
    set_length(cfg, 60, 6)  # of 600
    warmup, cosine, steps, decay, whole = cfg.param_scheduler
    assert all(s.by_epoch is False and 'convert_to_iter_based' not in s for s in cfg.param_scheduler)
    assert (warmup.begin, warmup.end) == (0, 3) and cosine.begin == 3 and 'end' not in cosine
    assert list(steps.milestones) == [30, 48]
    assert decay.gamma**60 == pytest.approx(0.9**100)
    assert 'end' not in whole and 'T_max' not in whole
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.end_iter, cfg.train_cfg.val_interval) == (10, 60, 5)
    set_length(cfg, 30, 6)  # a second time
    assert (cfg.param_scheduler[0].end, list(cfg.param_scheduler[2].milestones)) == (2, [15, 24])
    assert cfg.train_cfg.end_iter == 30 and cfg.train_cfg.max_epochs == 5


def test_a_longer_training_is_validated_as_often_per_epoch(tmp_path):
    cfg = config(tmp_path)
    set_length(cfg, 6000, 6)
    assert (cfg.train_cfg.max_epochs, cfg.train_cfg.val_interval) == (1000, 50)
    assert cfg.param_scheduler[0].end == 300


def test_a_loop_over_iterations_gets_fewer_of_them(tmp_path):
    cosine = {'type': 'CosineAnnealingLR', 'begin': 50, 'by_epoch': False}
    loop = dict(type='IterBasedTrainLoop', max_iters=500, val_interval=250)
    hooks = dict(checkpoint=dict(type='SafeCheckpointHook', interval=100, by_epoch=False))
    cfg = config(tmp_path, train_cfg=loop, param_scheduler=[cosine], default_hooks=hooks)
    set_length(cfg, 101, 6)
    assert (cfg.train_cfg.max_iters, cfg.train_cfg.val_interval, cfg.default_hooks.checkpoint.interval) == (101, 50, 20)
    assert cfg.param_scheduler[0].begin == 10 and 'end_iter' not in cfg.train_cfg


def test_steps_fit_accumulated_gradients(tmp_path):
    wrapper = dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1e-2), accumulative_counts=4)
    cfg = config(tmp_path, optim_wrapper=wrapper)
    set_length(cfg, 23, 6)
    assert cfg.train_cfg.end_iter == 20


def test_validations_take_their_part_of_the_time():
    loop = dict(max_epochs=100, val_interval=10)
    assert timed._count_steps(loop, 6, 100.0, 1.0, 0.0) == 100
    assert timed._count_steps(loop, 6, 100.0, 1.0, 2.0) == 80  # ten of them
    assert timed._count_steps(loop, 6, 2000.0, 1.0, 20.0) == 1500  # one in 60 steps


def test_a_run_that_ends_within_an_epoch_resumes_within_it(tmp_path):
    loop = {'type': 'EpochTrainLoop', 'max_epochs': 2, 'end_iter': 9}
    every = {'interval': 1, 'by_epoch': False}
    whole = make_runner(tmp_path / 'a', train_cfg=loop, checkpoint=every).train().state_dict()
    for at in (4, 7, 9):
        runner = make_runner(
            tmp_path / str(at), train_cfg=loop, load_from=str(tmp_path / f'a/iter_{at}.pth'), resume=True
        )
        state = runner.train().state_dict()
        assert runner.iter == 9 and all(torch.equal(whole[name], state[name]) for name in whole)
    with pytest.raises(UserError, match='end_iter=0'):
        make_runner(tmp_path / 'b', train_cfg=loop | {'end_iter': 0}).train()


def test_a_warmup_ends_before_a_training_of_few_steps(tmp_path):
    cfg = config(tmp_path)
    set_length(cfg, 1, 6)
    assert (cfg.train_cfg.end_iter, cfg.param_scheduler[0].end, cfg.param_scheduler[1].begin) == (4, 2, 2)
    long = config(tmp_path, param_scheduler=[WARMUP | {'end': 95}, COSINE | {'begin': 95}])
    set_length(long, 1, 6)
    assert (long.param_scheduler[0].end, long.param_scheduler[1].begin) == (3, 3)


def test_a_command_counts_its_minutes_from_its_begin():
    limit = TimeLimit(2, begin=time.perf_counter() - 30)
    assert limit.count_seconds_left() == pytest.approx(90, abs=1)
    assert TimeLimit(1, begin=time.perf_counter() - 90).count_minutes_left() == pytest.approx(1 / 60)


def test_steps_and_validations_fit_into_what_is_left():
    assert fit_steps(100, 0.5, 3.0, 10, 0.1) == (172, 3)  # nine seconds of validations, and five kept
    assert fit_steps(100, 0.5, 0.0, 10, 0.1) == (190, 10)
    assert fit_steps(100, 0.5, 30.0, 10, 0.1) == (130, 1)
    assert fit_steps(-5, 0.5, 3.0, 10, 0.1) == (4, 1)
