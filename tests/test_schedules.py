"""Schedules follow the length of a training, and what they do over all of it is checked before its first step."""

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from engine_toys import make_runner
from mae_toolkit.engine.schedules import TrainingLength, check_schedules, simulate
from mae_toolkit.errors import UserError

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = sorted(
    path
    for folder in ('configs', 'projects')
    for path in (ROOT / folder).rglob('*.py')
    if '_base_' not in path.parts and 'configs' in path.parts
)
ADAM = {'lr': 1e-3, 'weight_decay': 0.05}
WARMUP = {'type': 'LinearLR', 'start_factor': 0.01, 'by_epoch': False, 'begin': 0, 'end': 50}
COSINE = {'type': 'CosineAnnealingLR', 'eta_min': 0.0, 'by_epoch': False, 'begin': 50}


def doubts_of(schedules, steps=500, optimizer=ADAM, epochs=None, epoch_length=100):
    init_default_scope('mae_toolkit')
    length = TrainingLength(epochs * epoch_length if epochs else steps, epoch_length, epochs)
    return check_schedules(schedules, optimizer, length)


def read(path):
    """Schedules, settings of the optimizer and length of a config, whose epochs have 100 steps, or 2000 of COCO's."""
    cfg = Config.fromfile(str(path))
    if cfg.get('param_scheduler') is None or cfg.get('optim_wrapper') is None:
        pytest.skip('without schedules')
    epochs = cfg.train_cfg.get('max_epochs')
    epoch_length = 2000 if 'coco' in path.stem else 100
    length = TrainingLength(epochs * epoch_length if epochs else cfg.train_cfg.max_iters, epoch_length, epochs)
    return [dict(schedule) for schedule in cfg.param_scheduler], dict(cfg.optim_wrapper.optimizer), length


@pytest.mark.slow
@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_doubt_about_a_shipped_config(path):
    init_default_scope('mae_toolkit')
    schedules, optimizer, length = read(path)
    assert check_schedules(schedules, optimizer, length) == []
    series = simulate(schedules, optimizer, length)['lr']
    assert max(value for _, value in series) == pytest.approx(optimizer['lr'], rel=0.02)
    assert series[-1][1] < 0.12 * optimizer['lr']


@pytest.mark.parametrize('steps', [200, 1000, 100_000])
def test_schedules_of_shipped_configs_follow_max_iters(steps):
    init_default_scope('mae_toolkit')
    cfg = Config.fromfile(str(ROOT / 'configs' / '_base_' / 'schedules' / 'steps_500.py'))
    schedules, length = [dict(schedule) for schedule in cfg.param_scheduler], TrainingLength(steps, 10)
    assert check_schedules(schedules, ADAM, length) == []
    series = dict(simulate(schedules, ADAM, length)['lr'])
    middle = min(series, key=lambda step: abs(step - (50 + steps) / 2))
    assert series[middle] == pytest.approx(5e-4, rel=0.05)


def test_the_simulation_is_what_a_run_does(tmp_path):
    """Rates of every step of a run, by MMEngine's own schedules."""
    runner = make_runner(tmp_path, epochs=3)
    seen, step = [], runner.build_optim_wrapper(runner.optim_wrapper).optimizer.__class__.step

    def look(optimizer, *args, **kwargs):
        seen.append(optimizer.param_groups[0]['lr'])
        return step(optimizer, *args, **kwargs)

    schedules = [dict(part) for part in runner.param_schedulers]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, 'step', look)
        runner = make_runner(tmp_path / 'run', epochs=3)
        runner.train()
    series = simulate(schedules, {'lr': 1e-2}, TrainingLength(18, 6, 3))['lr']
    assert [value for _, value in series] == pytest.approx(seen)


@pytest.mark.parametrize(
    ('schedules', 'steps', 'words'),
    [
        ([WARMUP, COSINE | {'end': 500}], 1000, ['from step', 'step 1000', '50%', 'max_iters=1000']),
        ([WARMUP, COSINE | {'end': 500}], 200, ['ends at step 500', '200', 'leave its end out']),
        ([WARMUP], 30, ['never exceeds', 'lr=0.001', 'max_iters=30']),
        ([WARMUP | {'end': 1}, COSINE | {'begin': 1}], 500, ['a warm-up of one step', 'at least two steps']),
        ([WARMUP, COSINE | {'end': 500}], 30, ['begins at step 50', 'max_iters=30']),
        ([WARMUP, COSINE | {'T_max': 100}], 500, ['T_max=100', 'rises again']),
        ([WARMUP, COSINE | {'T_max': 1000}], 500, ['T_max=1000', 'never reached']),
        ([{'type': 'MultiStepLR', 'by_epoch': False, 'milestones': [400, 600]}], 500, ['[600]', '500 steps']),
        ([{'type': 'MultiStepLR', 'by_epoch': False, 'milestones': [100]}], 500, ['from step 100', '80%']),
        ([{'type': 'LinearLR', 'by_epoch': False, 'begin': 100, 'end': 200}], 500, ['warm-up at step 100']),
        ([WARMUP, COSINE | {'eta_min': 0.01}], 500, ['rises from lr=0.001', 'eta_min']),
        ([{'type': 'ConstantLR', 'factor': 0.1, 'by_epoch': False}], 500, ['never exceeds 0.0001']),
        ([{'type': 'PolyLR', 'by_epoch': False, 'end': 100}], 500, ['80%']),
    ],
)
def test_doubts(schedules, steps, words):
    said = ' '.join(doubts_of(schedules, steps))
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ('schedules', 'epochs', 'words'),
    [
        ([{'type': 'MultiStepLR', 'milestones': [8, 11]}], 24, ['from step 1100', '54%', 'max_epochs=24']),
        ([{'type': 'MultiStepLR', 'milestones': [8, 11]}], 9, ['[11]', '9 epochs']),
        ([WARMUP | {'end': 1000}, {'type': 'MultiStepLR', 'milestones': [3]}], 4, ['never exceeds', 'max_epochs=4']),
        ([{'type': 'CosineAnnealingLR', 'end': 10, 'convert_to_iter_based': True}], 20, ['from step', '50%']),
    ],
)
def test_doubts_by_epochs(schedules, epochs, words):
    said = ' '.join(doubts_of(schedules, epochs=epochs))
    for word in words:
        assert word in said


@pytest.mark.parametrize(
    ('schedules', 'words'),
    [
        ([{'type': 'CosineAnnealingLR'}], ['counts epochs', 'max_iters=500', 'by_epoch=False']),
        ([{'type': 'ExponentialLR', 'gamma': -0.9, 'by_epoch': False}], ['lr', '-0.0009', 'step 1']),
        ([{'type': 'CosineAnnealingLR', 'eta_min': -0.1, 'by_epoch': False}], ['lr', 'not negative']),
        ([{'type': 'LinearMomentum', 'end_factor': 1.0, 'by_epoch': False}], ['momentum', '1 at step']),
    ],
)
def test_what_cannot_be_followed(schedules, words):
    with pytest.raises(UserError) as error:
        doubts_of(schedules, optimizer=ADAM | {'momentum': 1.2})
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    'schedules',
    [
        [],
        [WARMUP],  # then constant
        [{'type': 'StepLR', 'step_size': 100, 'by_epoch': False}],
        [{'type': 'ConstantLR', 'factor': 0.1, 'by_epoch': False, 'end': 50}],
        [{'type': 'ExponentialLR', 'gamma': 0.99, 'by_epoch': False}],
        [WARMUP, {'type': 'PolyLR', 'power': 0.9, 'by_epoch': False}],  # overlapping
        [{'type': 'OneCycleLR', 'eta_max': 0.01, 'total_steps': 500, 'by_epoch': False}],
        [
            {'type': 'CosineRestartLR', 'periods': [100, 400], 'restart_weights': [1, 0.5], 'eta_min': 0.0}
            | {'by_epoch': False}
        ],
        [WARMUP, COSINE, {'type': 'CosineAnnealingMomentum', 'eta_min': 0.85, 'by_epoch': False}],
    ],
)
def test_what_is_meant_raises_no_doubt(schedules):
    assert doubts_of(schedules, 500, ADAM | {'momentum': 0.9}) == []


@pytest.mark.parametrize(
    'schedules',
    [[WARMUP], [WARMUP, COSINE], [{'type': 'OneCycleLR', 'eta_max': 0.01, 'total_steps': 50_000, 'by_epoch': False}]],
)
def test_what_is_meant_raises_no_doubt_in_a_long_training(schedules):
    assert doubts_of(schedules, 50_000) == []


def test_a_run_says_its_doubts(tmp_path, capsys):
    runner = make_runner(tmp_path, epochs=8, param_scheduler=[WARMUP | {'end': 5}, COSINE | {'begin': 5, 'end': 10}])
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.build_param_scheduler(runner.param_schedulers)
    assert 'stays at' in capsys.readouterr().out
