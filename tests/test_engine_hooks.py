"""Hooks: seeds, guards against what is not finite, broken images, compilation."""

import shutil
from types import SimpleNamespace

import pytest
import torch
from mmengine.hooks import Hook

from engine_toys import ToyAutoencoder, ToyImages, loader, make_runner
from mae_toolkit.checkpoints.files import newest_checkpoint
from mae_toolkit.engine.hooks import IterationSeedHook, NaNGuardHook, TrainingDiverged
from mae_toolkit.engine.hooks.iteration_seed import make_iteration_seed
from mae_toolkit.errors import UserError


class Poison(Hook):
    """Puts a value into a gradient or a weight before or after an iteration."""

    def __init__(self, at, where):
        self.at, self.where = at, where

    def before_train(self, runner):
        self.weight = runner.model.encoder.proj.weight
        if self.where == 'grad':
            self.weight.register_hook(lambda grad: grad * float('inf') if runner.iter == self.at else grad)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if self.where == 'weight' and runner.iter == self.at:
            self.weight.data[0, 0] = float('nan')


def finite(model):
    return all(tensor.isfinite().all() for tensor in model.state_dict().values())


def guarded(work_dir, hooks=(), nan=(), action='stop', **kwargs):
    guard = {'type': 'NaNGuardHook', 'action': action}
    data = loader(ToyImages(nan=nan), sampler={'type': 'DefaultSampler', 'shuffle': False})
    every = {'by_epoch': False, 'interval': 1, 'max_keep_ckpts': 1}
    return make_runner(work_dir, [guard, *hooks], checkpoint=every, train_dataloader=data, **kwargs)


def test_a_loss_that_is_not_finite_stops_before_the_step(tmp_path):
    runner = guarded(tmp_path, nan=[7], param_scheduler=None)
    with pytest.raises(
        TrainingDiverged, match=r'The loss is not finite at iteration 4 .*rate 0\.01; images: 6.png, 7.png'
    ):
        runner.train()
    assert issubclass(TrainingDiverged, UserError)
    assert finite(runner.model)
    assert newest_checkpoint(tmp_path).name == 'iter_3.pth'


def test_without_the_guard_the_weights_are_lost(tmp_path):
    """The test above would pass with nothing to guard, were it not for this."""
    runner = guarded(tmp_path, nan=[7])
    runner._hooks = [hook for hook in runner.hooks if not isinstance(hook, NaNGuardHook)]
    assert not finite(runner.train())


def test_a_gradient_that_is_not_finite_stops_before_the_step(tmp_path):
    runner = guarded(tmp_path, hooks=[Poison(4, 'grad')], wrapper={'clip_grad': {'max_norm': 1.0}})
    with pytest.raises(TrainingDiverged, match='A gradient is not finite at iteration 5 .*images: 8.png, 9.png'):
        runner.train()
    assert finite(runner.model)


def test_weights_that_are_not_finite_are_not_saved(tmp_path):
    with pytest.raises(TrainingDiverged, match='encoder.proj.weight is not finite after iteration 3 '):
        guarded(tmp_path, hooks=[Poison(2, 'weight')]).train()
    assert newest_checkpoint(tmp_path).name == 'iter_2.pth'


@pytest.mark.parametrize('counts', [1, 2])
def test_skipping_leaves_the_step_out(tmp_path, counts):
    data = loader(ToyImages(nan=[7]), sampler={'type': 'DefaultSampler', 'shuffle': False})
    guard = {'type': 'NaNGuardHook', 'action': 'skip'}
    runner = make_runner(tmp_path, [guard], epochs=1, wrapper={'accumulative_counts': counts}, train_dataloader=data)
    model = runner.train()
    assert finite(model) and runner.iter == 6
    state = runner.optim_wrapper.optimizer.state[model.encoder.proj.weight]
    assert state['step'] == 6 // counts - 1


@pytest.mark.process
def test_skipping_without_end_stops(tmp_path):
    runner = guarded(tmp_path, nan=range(12), action='skip', epochs=10)
    with pytest.raises(TrainingDiverged, match='after 20 skipped steps in a row'):
        runner.train()
    with pytest.raises(UserError, match="'ignore'"):
        NaNGuardHook('ignore')


def test_a_step_taken_ends_a_row_of_skipped_ones(tmp_path):
    guard = {'type': 'NaNGuardHook', 'action': 'skip', 'max_skips': 1}
    data = loader(ToyImages(nan=[0, 4, 8]), sampler={'type': 'DefaultSampler', 'shuffle': False})
    runner = make_runner(tmp_path, [guard], epochs=1, train_dataloader=data)
    runner.train()
    assert next(hook for hook in runner.hooks if isinstance(hook, NaNGuardHook)).skipped == 3


def test_seeds_differ_by_each_of_their_parts():
    seeds = {make_iteration_seed(*key) for key in [(0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1), (1, 1, 0)]}
    assert len(seeds) == 5 and all(0 <= seed < 2**63 for seed in seeds)
    assert make_iteration_seed(3, 5, 1) == make_iteration_seed(3, 5, 1)


def test_each_iteration_draws_numbers_of_its_own():
    drawn = []
    for iteration in (0, 1, 0):
        IterationSeedHook().before_train_iter(SimpleNamespace(seed=4, iter=iteration), 0)
        drawn.append(torch.rand(3))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


class Disturb(Hook):
    """Draws random numbers after each iteration, as a picture or a validation might."""

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        torch.rand(7)


def test_every_process_draws_random_numbers_of_its_own(monkeypatch):
    runner, drawn = SimpleNamespace(seed=1, iter=3), []
    for rank in (0, 1, 0):
        monkeypatch.setattr('mae_toolkit.engine.hooks.iteration_seed.get_rank', lambda rank=rank: rank)
        IterationSeedHook().before_train_iter(runner, 0)
        drawn.append(torch.rand(4))
    assert torch.equal(drawn[0], drawn[2]) and not torch.equal(drawn[0], drawn[1])


def test_random_numbers_drawn_by_others_change_nothing(tmp_path):
    plain = make_runner(tmp_path / 'a', epochs=1).train()
    disturbed = make_runner(tmp_path / 'b', [Disturb()], epochs=1).train()
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, disturbed.state_dict()[name])


def with_broken(work_dir, broken, **hook):
    hook = {'type': 'BrokenImagesHook', 'min_seen': 10, **hook}
    return make_runner(work_dir, [hook], epochs=2, train_dataloader=loader(ToyImages(broken=broken)))


def test_broken_images_are_named_once_and_counted(tmp_path):
    with_broken(tmp_path, [3], max_share=0.1).train()
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert log.count('Broken image skipped: 3.png (truncated)') == 1
    assert '1 image was broken and skipped (2 times)' in log


def test_too_many_broken_images_stop_the_run(tmp_path):
    with pytest.raises(UserError, match=r'of 1\d images read are broken, more than max_share=0.1 .*truncated'):
        with_broken(tmp_path, [3, 5, 7], max_share=0.1).train()
    with_broken(tmp_path, [3, 5, 7], max_share=0.1, min_seen=1000).train()


def test_compiled_functions_are_used_and_names_stay(tmp_path, monkeypatch):
    calls = []

    def compile(function, **kwargs):
        def compiled(*args):
            calls.append((function.__name__, kwargs))
            return function(*args)

        return compiled

    monkeypatch.setattr(torch, 'compile', compile)
    plain = make_runner(tmp_path / 'a', epochs=1).train()
    model = make_runner(tmp_path / 'b', [{'type': 'CompileHook', 'mode': 'max-autotune'}], epochs=1).train()
    assert calls.count(('encode', {'mode': 'max-autotune'})) == calls.count(('forward', {'mode': 'max-autotune'})) == 6
    assert 'encode' not in vars(model.encoder) and 'forward' not in vars(model.decoder)
    for name, tensor in plain.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


@pytest.mark.process
@pytest.mark.skipif(shutil.which('c++') is None, reason='torch.compile on the CPU needs a C++ compiler')
def test_compiled_run_equals_the_plain_one(tmp_path):
    models = [
        make_runner(tmp_path / str(len(hooks)), hooks, model=ToyAutoencoder(drop=0.0), epochs=1, randomness={'seed': 2})
        for hooks in ([], [{'type': 'CompileHook'}])
    ]
    models[1].model.load_state_dict(models[0].model.state_dict())
    states = [runner.train().state_dict() for runner in models]
    for name, tensor in states[0].items():
        assert torch.allclose(tensor, states[1][name], atol=1e-5), name


def test_the_masking_changes_as_training_goes_on(tmp_path):
    seen = []

    class Watch(Hook):
        def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
            seen.append(runner.model.masking.ratio)

    model = ToyAutoencoder()
    model.masking.ratio = 0.1
    schedule = {'type': 'MaskingScheduleHook', 'name': 'ratio', 'values': (0.0, 1.0)}
    make_runner(tmp_path, hooks=[schedule, Watch()], epochs=1, model=model).train()
    assert seen == [i / (len(seen) - 1) for i in range(len(seen))]
    with pytest.raises(UserError, match="ToyMasking has no 'hardness'"):
        make_runner(tmp_path / 'b', epochs=1, hooks=[schedule | {'name': 'hardness'}]).train()
