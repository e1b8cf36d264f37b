"""SpeedHook: what it measures, what it leaves alone, and whom it names."""

import json
import socket

import pytest
import torch
from mmengine.hooks import Hook

import parts
from engine_toys import ToyAutoencoder, ToyImages, ToyPreprocessor, loader, make_runner
from mae_toolkit.engine import step_clock
from mae_toolkit.engine.hooks import SpeedHook, speed
from mae_toolkit.engine.step_clock import StepClock
from mae_toolkit.engine.step_flops import copy_to_cpu, count_flops_per_image
from mae_toolkit.engine.stragglers import RankTimes, StragglerWatch, find_stragglers
from mae_toolkit.errors import UserError
from mae_toolkit.flops import count_flops
from mae_toolkit.visualization import read_scalars
from test_distributed import run_pair


def find_speed(runner):
    return next(hook for hook in runner.hooks if isinstance(hook, SpeedHook))


def run(folder, interval=4, **kwargs):
    runner = make_runner(folder, default_hooks={'logger': {'type': 'LoggerHook', 'interval': interval}}, **kwargs)
    runner.train()
    return runner, read_scalars(folder)


class NoteGradients(Hook):
    """Notes the norm of the gradients before each step of the optimizer."""

    def __init__(self):
        self.norms = {}

    def before_train(self, runner):
        def note(optimizer, *_):
            grads = [
                p.grad.flatten() for group in optimizer.param_groups for p in group['params'] if p.grad is not None
            ]
            self.norms[runner.iter + 1] = torch.cat(grads).norm().item() if grads else None

        runner.optim_wrapper.optimizer.register_step_pre_hook(note)


def test_every_run_logs_its_speed_at_the_interval_of_the_logger(tmp_path):
    noted = NoteGradients()
    _, series = run(tmp_path, hooks=[noted])
    assert list(series['speed/images_per_s']) == [4, 8, 12]
    assert all(value > 0 for value in series['speed/images_per_s'].values())
    assert {'speed/step_time', 'speed/data_time', 'speed/data_time_max', 'speed/memory_gb'} <= series.keys()
    assert not {'speed/peak_share', 'ranks/data_time/0'} & series.keys()
    assert series['train/grad_norm'] == pytest.approx({step: noted.norms[step] for step in (4, 8, 12)})


def test_accumulated_gradients_have_the_norm_of_the_last_step_of_the_optimizer(tmp_path):
    noted = NoteGradients()
    _, series = run(tmp_path, hooks=[noted], wrapper={'accumulative_counts': 3})
    assert list(noted.norms) == [3, 6, 9, 12]
    assert series['train/grad_norm'] == pytest.approx({4: noted.norms[3], 8: noted.norms[6], 12: noted.norms[12]})


def test_a_step_that_is_skipped_has_no_norm(tmp_path):
    data = loader(ToyImages(nan=[7]), sampler={'type': 'DefaultSampler', 'shuffle': False})  # in the fourth batch
    guard = {'type': 'NaNGuardHook', 'action': 'skip'}
    _, series = run(tmp_path, epochs=1, hooks=[guard], train_dataloader=data)
    assert list(series['speed/images_per_s']) == [4, 6]
    assert list(series['train/grad_norm']) == [6]


def test_where_gradients_are_clipped_mmengine_logs_their_norm(tmp_path):
    _, series = run(tmp_path, interval=5, epochs=1, wrapper={'clip_grad': {'max_norm': 1e9}})
    assert list(series['grad_norm']) == [5]  # the toy's names have no stage in front
    assert 'train/grad_norm' not in series


def test_measuring_and_counting_change_no_weight(tmp_path, monkeypatch):
    hooks = {'logger': {'type': 'LoggerHook', 'interval': 2}, 'speed': None, 'iteration_seed': None}
    before = make_runner(tmp_path / 'a', epochs=1, custom_hooks=[], default_hooks=hooks)
    before.train()
    monkeypatch.setattr(speed, '_find_device_peak', lambda wrapper: 1e12)
    after = make_runner(
        tmp_path / 'b', epochs=1, custom_hooks=[], default_hooks=hooks | {'speed': {'type': 'SpeedHook'}}
    )
    after.train()
    assert find_speed(after).latest['speed/peak_share'] > 0
    for name, tensor in before.model.state_dict().items():
        assert torch.equal(tensor, after.model.state_dict()[name]), name


def test_the_share_of_the_peak_is_that_of_the_counted_operations(tmp_path, monkeypatch):
    monkeypatch.setattr(speed, '_find_device_peak', lambda wrapper: 1e10)
    runner, series = run(tmp_path, epochs=1, interval=6)
    hook = find_speed(runner)
    imgs = torch.rand(2, 1, 8, 8)
    step = count_flops(lambda: runner.model(imgs, mode='loss')['loss_pixel'].backward())
    assert hook._flops_per_image == step / 2 > 0
    expected = series['speed/images_per_s'][6] * step / 2 / 1e10
    assert series['speed/peak_share'][6] == pytest.approx(expected)


@pytest.mark.parametrize('step', ['copy_to_cpu', 'count_flops_per_image'])
def test_a_model_that_cannot_be_counted_is_named_and_trained(tmp_path, monkeypatch, step):
    monkeypatch.setattr(speed, '_find_device_peak', lambda wrapper: 1e10)
    monkeypatch.setattr(speed, step, lambda *_: 1 / 0)
    _, series = run(tmp_path, epochs=1)
    assert 'speed/peak_share' not in series and series['speed/images_per_s']
    assert 'cannot be counted on a CPU (ZeroDivisionError' in next(tmp_path.glob('*/*.log')).read_text()


def test_recomputed_activations_are_no_operations_of_the_model():
    model = parts.make_model(encoder=parts.ENCODERS['ViT'], data_preprocessor=ToyPreprocessor())
    batch = {'imgs': torch.randint(256, (3, 3, *parts.SIZE)), 'names': ['a', 'b', 'c']}
    plain = count_flops_per_image(copy_to_cpu(model), batch)
    model.encoder.with_cp = True
    copied = copy_to_cpu(model)
    assert count_flops_per_image(copied, batch) == plain > 0
    assert model.encoder.with_cp and all(parameter.grad is None for parameter in model.parameters())


class LoneNorm(torch.nn.BatchNorm2d):
    """A norm that exchanges sums with the other processes in training, which only the first of them counts."""

    def forward(self, x):
        assert not self.training, 'the others do not answer'
        return super().forward(x)


class NormModel(ToyAutoencoder):
    def __init__(self):
        super().__init__()
        self.norm = LoneNorm(1)

    def forward(self, imgs, mode='loss'):
        return super().forward(self.norm(imgs), mode=mode)


def test_what_is_counted_exchanges_nothing_with_other_processes():
    assert count_flops_per_image(copy_to_cpu(NormModel()), {'imgs': torch.rand(4, 1, 8, 8)}) > 0


def test_a_step_is_its_waiting_and_its_work(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(step_clock, 'perf_counter', lambda: now[0])
    clock = StepClock()
    model = torch.nn.Linear(1, 1)
    clock.watch_forward(model)
    clock.mark()
    for _ in range(2):
        now[0] += 3  # the batch
        clock.begin_step()
        model.register_forward_pre_hook(lambda *_: now.__setitem__(0, now[0] + 1))  # one second in the first step
        model(torch.ones(1, 1))
        now[0] += 5
        clock.end_step(images=4)
    now[0] += 100  # a validation
    model.eval()
    model(torch.ones(1, 1))
    clock.mark()
    assert (clock.steps, clock.images, clock.waited, clock.seconds) == (2, 8, 6, 2 * 8 + 1 + 2)
    assert clock.read_forward() == 3
    clock.restart()
    assert (clock.steps, clock.images, clock.waited, clock.seconds, clock.read_forward()) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize(
    ('slow', 'waits'), [(RankTimes(2.0, 1.1, 0.5), True), (RankTimes(2.0, 0.1, 1.4), False)], ids=['data', 'computing']
)
@pytest.mark.parametrize('others', [1, 5])
def test_a_straggler_is_named_with_what_it_does(slow, waits, others):
    ranks = [RankTimes(2.0, 0.1, 0.5)] * others + [slow]
    (found,) = find_stragglers(ranks, 1.5)
    assert (found.rank, found.waits_for_data) == (others, waits)
    assert found.factor == pytest.approx(slow.own / 0.6)
    assert 'Rank' in found.describe('n7', 3) and 'n7' in found.describe('n7', 3)


def test_what_costs_the_others_nothing_is_no_straggler():
    even = [RankTimes(2.0, 0.1, 0.5)] * 4
    assert not find_stragglers(even, 1.5)
    assert not find_stragglers([*even, RankTimes(2.0, 0.3, 0.5)], 1.5)  # less than the factor
    assert not find_stragglers([RankTimes(2.0, 0.0, 0.01), RankTimes(2.0, 0.1, 0.01)], 1.5)  # 5% of a step
    assert not find_stragglers([RankTimes(2.0, 1.9, 0.1)], 1.5)  # alone
    assert not find_stragglers([RankTimes(0.0, 0.0, 0.0)] * 2, 1.5)


def test_a_straggler_is_named_once_when_it_persists_and_again_after_it_recovered():
    watch = StragglerWatch(1.5, 2)
    even, slow = [RankTimes(2.0, 0.1, 0.5)] * 3, [RankTimes(2.0, 0.1, 0.5)] * 2 + [RankTimes(2.0, 1.1, 0.5)]
    named = [[one.rank for one in watch.update(ranks)] for ranks in (slow, even, slow, slow, slow, even, slow, slow)]
    assert named == [[], [], [], [2], [], [], [], [2]]


@pytest.mark.parametrize('given', [{'factor': 1}, {'factor': 'a'}, {'windows': 0}, {'interval': 0}])
def test_settings_that_cannot_be_meant_are_refused(given):
    with pytest.raises(UserError, match=next(iter(given))):
        SpeedHook(**given)


NOW = [0.0]  # seconds on the clock of a process of the pair below


class SlowBatches(ToyImages):
    def __getitem__(self, key):
        NOW[0] += torch.distributed.get_rank()
        return super().__getitem__(key)


class SlowForward(Hook):
    """A forward pass takes a second, and on the given rank more; the first takes long everywhere."""

    def __init__(self, rank=-1):
        self.rank = rank

    def before_train(self, runner):
        seconds = 5 if torch.distributed.get_rank() == self.rank else 1

        def pass_time(*_):
            NOW[0] += seconds + 1000 * (runner.iter == 0)

        runner.model.module.register_forward_pre_hook(pass_time)


def train_stragglers(rank, folder):
    step_clock.perf_counter = lambda: NOW[0]
    options = dict(interval=2, launcher='pytorch')
    run(folder / 'data', hooks=[SlowForward()], train_dataloader=loader(SlowBatches(16)), **options)
    run(folder / 'computing', hooks=[SlowForward(rank=0)], train_dataloader=loader(ToyImages(16)), **options)
    return {}


@pytest.mark.process
def test_of_two_processes_the_slow_one_is_named(tmp_path):
    run_pair(train_stragglers, tmp_path)
    host = socket.gethostname()
    sentences = {
        'data': (1, f'Rank 1 on {host} waits for data: 3.0 times the median of all ranks in the last 3 measurements'),
        'computing': (0, f'Rank 0 on {host} computes slowly: 5.0 times the median of all ranks in the last 3'),
    }
    for name, (rank, sentence) in sentences.items():
        log = next(path for path in (tmp_path / name).glob('*/*.log') if 'rank' not in path.name).read_text()
        assert log.count(sentence) == 1 and log.count(' times the median') == 1
        lines = [json.loads(line) for line in next((tmp_path / name).glob('*/vis_data/ranks.jsonl')).open()]
        assert [line['step'] for line in lines] == [2, 4, 6, 8]
        assert all(line['stragglers'] == [rank] and line['host'] == [host, host] for line in lines)
    data, computing = (read_scalars(tmp_path / name) for name in sentences)
    assert set(data['speed/data_time'].values()) == {1.0} and set(data['speed/data_time_max'].values()) == {2.0}
    assert set(data['speed/images_per_s'].values()) == {4 / 3}  # two images of each process in 2 + 1 seconds
    assert set(computing['ranks/forward_time/0'].values()) == {5.0} and computing['ranks/data_time/1'][8] == 0.0


class FakeEvent:
    """An event of a GPU: its time is known once it was waited for."""

    def __init__(self, now, waited):
        self.time, self.waited = now, waited

    def synchronize(self):
        self.waited.append(self.time)

    def elapsed_time(self, other):
        return 1000.0 * (other.time - self.time)  # in milliseconds


def test_on_a_gpu_forward_passes_are_timed_by_events_that_are_read_at_the_end(monkeypatch):
    times, waited = iter([1.0, 3.0, 10.0, 11.0, 20.0]), []
    monkeypatch.setattr(step_clock, '_record_event', lambda: FakeEvent(next(times), waited))
    model = torch.nn.Linear(1, 1)
    monkeypatch.setattr(step_clock, '_is_on_gpu', lambda module: module is model)
    clock = StepClock()
    clock.watch_forward(model)
    for _ in range(2):
        model(torch.ones(1, 1))
    assert not waited
    model.register_forward_hook(lambda *_: 1 / 0, prepend=True)
    with pytest.raises(ZeroDivisionError):
        model(torch.ones(1, 1))  # a forward pass that fails has no end
    assert clock.read_forward() == pytest.approx(2 + 1) and waited == [11.0]
    clock.restart()
    assert clock.read_forward() == 0
    clock.release()
    assert not model._forward_pre_hooks
