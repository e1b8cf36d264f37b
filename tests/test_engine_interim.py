"""An interim checkpoint: a run goes on from it bit for bit, and the next checkpoint takes its place."""

import pytest
import torch
from mmengine.hooks import Hook

from engine_toys import loader, make_runner
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS

TOTAL = 12
OVER_ITERATIONS = {
    'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': TOTAL},
    'train_dataloader': loader(sampler={'type': 'InfiniteSampler'}),
    'param_scheduler': [{'type': 'CosineAnnealingLR', 'T_max': 20, 'by_epoch': False}],
}
EVERY_FOUR = {'interval': 4, 'by_epoch': False, 'max_keep_ckpts': 1}
ACCUMULATED = {'wrapper': {'accumulative_counts': 2}}
RUNS = {
    'epochs': {},
    'epochs, accumulated': ACCUMULATED,
    'iterations': OVER_ITERATIONS | {'checkpoint': EVERY_FOUR},
    'iterations, accumulated': OVER_ITERATIONS | ACCUMULATED | {'checkpoint': EVERY_FOUR},
}


class Stop(Exception):
    pass


@HOOKS.register_module(force=True)
class SaveAndStopHook(Hook):
    priority = 'LOWEST'

    def __init__(self, at, stop=True):
        self.at, self.stop = at, stop

    def after_train_iter(self, runner, **_):
        if runner.iter + 1 in self.at:
            self.path = next(hook for hook in runner.hooks if hasattr(hook, 'save_now')).save_now(runner)
            if self.stop:
                raise Stop(self.path)


def run(folder, *at, stop=True, resume=False, **options):
    hooks = [{'type': 'SaveAndStopHook', 'at': at, 'stop': stop}, {'type': 'EMAHook'}]
    runner = make_runner(folder, hooks=hooks, epochs=TOTAL // 6, resume=resume, **options)
    try:
        runner.train()
    except Stop:
        return None
    return load(newest_checkpoint(folder))


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def assert_equal(a, b):
    for part in ('state_dict', 'ema_state_dict'):
        assert all(torch.equal(value, b[part][name]) for name, value in a[part].items())
    assert [s['last_step'] for s in a['param_schedulers']] == [s['last_step'] for s in b['param_schedulers']]


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp('whole')
    return {name: run(folder / name, **options) for name, options in RUNS.items()}


@pytest.mark.parametrize('name', RUNS)
@pytest.mark.parametrize('at', [2, 6, 10])
def test_a_run_goes_on_from_it(tmp_path, whole, name, at):
    """Within an epoch, and at its end, where the schedule by epochs has still to step."""
    run(tmp_path, at, **RUNS[name])
    assert newest_checkpoint(tmp_path).name == f'iter_{at}.pth'
    assert (tmp_path / 'last_checkpoint').read_text().endswith(f'/iter_{at}.pth')
    assert_equal(run(tmp_path, resume='auto', **RUNS[name]), whole[name])
    kept = ['epoch_1.pth', 'epoch_2.pth'] if 'epochs' in name else ['iter_12.pth']
    assert names(tmp_path) == kept  # it is gone


def test_the_next_one_replaces_it(tmp_path):
    run(tmp_path, 2)
    run(tmp_path, 4, resume='auto')
    assert names(tmp_path) == ['iter_4.pth']
    run(tmp_path, 5, 7, stop=False, resume='auto')
    assert names(tmp_path) == ['epoch_1.pth', 'epoch_2.pth']


def test_a_regular_checkpoint_of_the_same_iteration_is_enough_and_stays(tmp_path):
    checkpoint = {'interval': 4, 'by_epoch': False}
    run(tmp_path, 4, checkpoint=checkpoint)
    run(tmp_path, resume='auto', checkpoint=checkpoint)
    assert names(tmp_path) == ['iter_12.pth', 'iter_4.pth', 'iter_8.pth']


def test_between_two_optimizer_steps_it_is_refused(tmp_path):
    with pytest.raises(UserError, match='A checkpoint of 3 iterations would lose .* once every 2 iterations'):
        run(tmp_path, 3, **ACCUMULATED)


def test_what_only_bears_its_name_stays(tmp_path):
    treasure = tmp_path / 'treasure'
    treasure.write_text('precious')
    run(tmp_path / 'run', 2)
    (tmp_path / 'run' / 'iter_2.pth').rename(tmp_path / 'start.pth')
    (tmp_path / 'run' / 'iter_2.pth').symlink_to(treasure)
    run(tmp_path / 'run', resume=True, load_from=str(tmp_path / 'start.pth'))
    assert treasure.read_text() == 'precious' and (tmp_path / 'run' / 'iter_2.pth').is_symlink()
