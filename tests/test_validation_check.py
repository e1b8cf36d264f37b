"""The dry run of the validation: what it refuses, and that it leaves no trace."""

import copy
import os
import random
import re
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.logging import MessageHub, MMLogger
from mmengine.model import BaseModel
from torch import nn

from engine_toys import NUMBERS, ToyImages, loader, make_runner, val_loader
from mae_toolkit.engine.dry_run.norms import Batch, find_smallest_batch
from mae_toolkit.engine.dry_run.traces import leave_no_trace
from mae_toolkit.engine.hooks.validation_check import ValidationCheckHook
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS, MODELS
from test_distributed import run_pair
from validation_toys import LabeledNoise, NoiseClassifier, hold_out, make_validated, trace_of


@HOOKS.register_module(force=True)
class Recorder(Hook):
    """Notes the random states at the first step, and modes of the modules."""

    priority = 6

    def before_train(self, runner):
        self.drawn = (random.random(), np.random.rand(), torch.rand(()).item())
        self.modes = [module.training for module in runner.model.modules()]
        self.hub = {name: dict(getattr(runner.message_hub, name)) for name in ('log_scalars', 'runtime_info')}
        self.evaluator = [
            copy.deepcopy(vars(metric)) for metric in getattr(runner.val_loop, 'evaluator', runner).metrics
        ]


def trained(folder, checked, seed=3, **kwargs):
    """What is left of a run: weights, losses, and what was noted before its first step."""
    random.seed(seed)
    np.random.seed(seed)
    runner = make_validated(folder, checked=checked, hooks=[{'type': 'Recorder'}], **kwargs)
    model = runner.train()
    hooks = [hook for hook in runner.hooks if isinstance(hook, Recorder)]
    names = ('train/loss', 'own/score', 'accuracy/top1')
    scalars = runner.message_hub.log_scalars
    losses = {name: scalars[name].data[0].tolist() for name in names if name in scalars}
    files = sorted(path.name for path in folder.rglob('*') if path.suffix in ('.pth', '.pkl'))
    return model.state_dict(), losses, files, hooks[0], model.steps, runner


@pytest.mark.parametrize(
    'changes',
    [
        {},
        {'evaluator': [{'type': 'Accuracy'}, {'type': 'OwnMetric'}], 'save_best': 'own/score'},
        {'model': {'type': 'NoiseClassifier', 'spatial': 2}, 'train': loader(LabeledNoise(), 1)},
        {'evaluator': [{'type': 'OwnMetric'}, {'type': 'DumpResults', 'out_file_path': 'results.pkl'}]},
    ],
    ids=['plain', 'own', 'norms', 'files'],
)
def test_a_run_is_the_same_with_and_without_the_check(tmp_path, monkeypatch, changes):
    monkeypatch.chdir(tmp_path)
    runs = [trained(tmp_path / str(checked), checked, **changes) for checked in (True, False)]
    (state, losses, files, noted, steps, runner), (state2, losses2, files2, noted2, steps2, other) = runs
    assert any(isinstance(hook, ValidationCheckHook) for hook in runner.hooks)
    assert not any(isinstance(hook, ValidationCheckHook) for hook in other.hooks)
    assert all(torch.equal(state[name], state2[name]) for name in state)
    assert losses == losses2 and files == files2 and steps == steps2 and losses['train/loss']
    assert noted.drawn == noted2.drawn and noted.modes == noted2.modes
    assert noted.hub.keys() == noted2.hub.keys() and noted.hub['log_scalars'] == {}
    assert noted.hub['runtime_info'].keys() == noted2.hub['runtime_info'].keys()
    assert [one.get('history', []) for one in noted.evaluator] == [[] for _ in noted.evaluator]


def test_nothing_is_written_before_the_first_step(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)

    class Stop(Hook):
        priority = 6

        def before_train(self, runner):
            assert not (tmp_path / 'results.pkl').exists()
            raise KeyboardInterrupt

    dumped = {'type': 'OwnDump', 'out_file_path': 'results.pkl'}
    with pytest.raises(KeyboardInterrupt):
        make_validated(tmp_path / 'run', [{'type': 'OwnMetric'}, dumped], hooks=[Stop()]).train()


def test_its_time_is_in_the_log(tmp_path):
    make_validated(tmp_path).train()
    assert 'The dry run of the validation took' in next(tmp_path.glob('*/*.log')).read_text()


def refusal(folder, *args, **kwargs):
    """The sentence with which a run is refused before its first step."""
    runner = make_validated(folder, *args, **kwargs)
    with pytest.raises(UserError) as caught:
        runner.train()
    assert runner.iter == 0
    return str(caught.value)


@pytest.mark.parametrize(
    ('name', 'evaluator', 'sentence'),
    [
        (
            'accuracy/top2',
            None,
            r"save_best='accuracy/top2' is not a metric of the validation; did you mean accuracy/top1",
        ),
        ('accuracy/top5', None, r"save_best='accuracy/top5' .*did you mean accuracy/top1\?"),  # of three classes
        ('mIoU', None, 'known are accuracy/top1'),
        ('own/scor', {'type': 'OwnMetric'}, r'did you mean own/score\?'),
        ('mIoU', {'type': 'OwnMetric'}, 'known are own/score'),
        ('own/score', {'type': 'OwnMetric', 'numbers': {'score': [1, 2], 'mean': 1}}, 'is a list, not a number'),
        (['accuracy/top1', 'acuracy/top1'], None, "'acuracy/top1' is not a metric"),
        ('accuracy/top1', [], 'val_evaluator is missing'),
        ('auto', [], 'val_evaluator is missing'),
    ],
)
def test_a_best_metric_that_does_not_exist_is_refused(tmp_path, name, evaluator, sentence):

    assert re.search(sentence, refusal(tmp_path, evaluator, name))


def test_the_first_metric_needs_a_rule(tmp_path):
    found = refusal(tmp_path, {'type': 'OwnMetric'}, 'auto', rule=None)
    assert "takes the first metric, 'own/score'" in found and 'rule to greater or less' in found


@HOOKS.register_module(force=True)
class AddMetric(Hook):
    priority = 'HIGH'

    def after_val_epoch(self, runner, metrics=None):
        metrics['sum'] = sum(metrics.values())


@pytest.mark.parametrize(
    ('name', 'evaluator', 'hooks'),
    [
        ('auto', None, ()),
        ('accuracy/top1', None, ()),
        (['accuracy/top1', 'own/score'], [{'type': 'Accuracy'}, {'type': 'OwnMetric'}], ()),
        ('own/score_third', {'type': 'OwnMetric', 'by_class': True}, ()),  # the first two images have other classes
        ('own/score', {'type': 'OwnMetric', 'numbers': {'score': np.float64(2)}}, ()),
        ('own/score', {'type': 'OwnMetric', 'numbers': {'score': torch.tensor(2.0)}}, ()),
        ('own/score', {'type': 'OwnMetric', 'numbers': {'score': float('nan')}}, ()),
        ('sum', None, [{'type': 'AddMetric'}]),
    ],
)
def test_a_best_metric_that_exists_is_not(tmp_path, name, evaluator, hooks):
    assert make_validated(tmp_path, evaluator, name, hooks).train()


def test_metrics_without_numbers_on_few_images_are_not_missed(tmp_path):
    """The run goes on; whether the metric comes is not known."""
    empty = {'type': 'OwnMetric', 'numbers': {}}
    assert make_validated(tmp_path, empty, 'own/score').train()


def test_what_stops_a_run_or_lowers_its_rate_watches_a_metric(tmp_path):
    hook = {'type': 'EarlyStoppingHook', 'monitor': 'accuracy/top_1', 'rule': 'greater'}
    assert "EarlyStoppingHook.monitor='accuracy/top_1'" in refusal(tmp_path / '1', hooks=[hook])
    plateau = [{'type': 'ReduceOnPlateauLR', 'monitor': 'loss', 'rule': 'less'}]
    assert "param_scheduler.monitor='loss' is not a metric" in refusal(tmp_path / '2', param_scheduler=plateau)
    plateau[0] |= {'monitor': 'accuracy/top1', 'rule': 'greater'}
    hook['monitor'] = 'accuracy/top1'
    assert make_validated(tmp_path / '3', hooks=[hook], param_scheduler=plateau).train()


def test_losses_on_held_out_images_are_metrics(tmp_path):
    held_out = {'val_dataloader': val_loader(), 'val_cfg': {'type': 'MAEValLoop'}}
    with pytest.raises(UserError, match=r"save_best='los' is not a metric of the validation; did you mean loss"):
        make_runner(tmp_path / '1', checkpoint={'save_best': 'los', 'rule': 'less'}, **held_out).train()
    make_runner(tmp_path / '2', epochs=1, checkpoint={'save_best': 'loss_pixel'}, **held_out).train()


@pytest.mark.parametrize('raises', ['KeyError', 'TypeError'])
def test_a_metric_of_ones_own_keeps_its_trace(tmp_path, raises):
    runner = make_validated(tmp_path, {'type': 'OwnMetric', 'raises': raises})
    with pytest.raises((KeyError, TypeError)) as caught:
        runner.train()
    trace = trace_of(caught.value)
    assert runner.iter == 0 and 'in compute_metrics' in trace
    assert trace.strip().splitlines()[-1].startswith('This was raised by the dry run of the validation')


class Unfit(NoiseClassifier):
    """Raises in evaluation."""

    def forward(self, imgs, labels=None, mode='tensor'):
        return super().forward(imgs, labels, mode) if mode == 'loss' else imgs.no_such_attribute


def test_a_model_of_ones_own_keeps_its_trace(tmp_path):
    with pytest.raises(AttributeError) as caught:
        make_validated(tmp_path, model=Unfit()).train()
    trace = trace_of(caught.value)
    assert 'imgs.no_such_attribute' in trace and 'validation_check=None turns it off' in trace


@pytest.mark.parametrize(
    ('held_out', 'sentence'),
    [
        (hold_out(8, drop_last=True), 'has 5 images in batches of 8 and drop_last=True'),
        (hold_out() | {'dataset': LabeledNoise(0)}, 'gives none of 0 images'),
    ],
)
def test_a_validation_without_a_batch_is_refused(tmp_path, held_out, sentence):
    assert sentence in refusal(tmp_path, held_out=held_out)


def test_images_that_cannot_be_read_are_no_reason(tmp_path):
    broken = LabeledNoise(5, broken=(0, 1))
    assert make_validated(tmp_path, held_out=hold_out(images=broken), save_best='accuracy/top1').train()


@pytest.mark.process
def test_images_are_read_in_a_process_of_their_own_if_they_will_be(tmp_path):
    for workers in (0, 1):
        folder = tmp_path / f'read{workers}'
        folder.mkdir()
        held_out = hold_out(images=LabeledNoise(5, folder), num_workers=workers)
        make_validated(tmp_path / str(workers), held_out=held_out, train_cfg=epochs(1)).train()
        assert (str(os.getpid()) in {path.name for path in folder.iterdir()}) == (workers == 0)


def epochs(number, **kwargs):
    return {'type': 'EpochTrainLoop', 'max_epochs': number, **kwargs}


def test_without_a_validation_nothing_is_tried(tmp_path):
    runner = make_validated(
        tmp_path, {'type': 'OwnMetric', 'raises': 'KeyError'}, 'mIoU', train_cfg=epochs(1, val_begin=2)
    )
    assert runner.train()
    log = next(tmp_path.glob('*/*.log')).read_text()
    assert 'save_best=mIoU: nothing comes of it, as this training has no validation.' in log
    assert 'The dry run' not in log


def test_a_validation_that_measures_nothing_is_told(tmp_path):
    make_validated(tmp_path, []).train()
    assert 'The validation measures nothing, as val_evaluator is missing' in next(tmp_path.glob('*/*.log')).read_text()


def test_images_that_the_validation_leaves_out_are_counted(tmp_path):
    make_validated(tmp_path, held_out=hold_out(drop_last=True), train_cfg=epochs(1)).train()
    assert 'leaves out 1 of 5 images' in next(tmp_path.glob('*/*.log')).read_text()


def test_two_metrics_of_one_name_are_refused(tmp_path):
    assert "are named 'accuracy/top1': give one of them a prefix" in refusal(tmp_path, [{'type': 'Accuracy'}] * 2)


def test_batches_without_labels_are_refused(tmp_path):
    class Unlabeled(NoiseClassifier):
        def val_step(self, data):
            return list(torch.zeros(len(data['imgs']), 3))

    held_out = hold_out(images=ToyImages())
    assert 'Accuracy needs labels' in refusal(tmp_path, model=Unlabeled(), held_out=held_out)


LAST = {'train': loader(LabeledNoise(13), 4, sampler={'type': 'DefaultSampler', 'shuffle': True})}
SINGLE = {'train': loader(LabeledNoise(), 1)}


@pytest.mark.parametrize(
    ('changes', 'sentence'),
    [
        (LAST, r'The last batch of an epoch has 1 image \(13 images, batch_size=4\), .*norm \(BatchNorm2d\)'),
        (SINGLE, r'batch_size=1, norm \(BatchNorm2d\) is given one value per channel \(1 x 4 x 1 x 1\)'),
        (SINGLE | {'model': NoiseClassifier(nn.GroupNorm(4, 4))}, r'norm \(GroupNorm\) is given one value'),
        ({'model': NoiseClassifier(nn.InstanceNorm2d(4))}, r'norm \(InstanceNorm2d\) is given maps of one position'),
    ],
)
def test_a_norm_of_single_values_is_refused(tmp_path, changes, sentence):

    assert re.search(sentence, refusal(tmp_path, **changes))


@pytest.mark.parametrize(
    'changes',
    [
        LAST | {'train': LAST['train'] | {'drop_last': True}},
        SINGLE | {'model': {'type': 'NoiseClassifier', 'stays': True}},
        SINGLE | {'model': {'type': 'NoiseClassifier', 'spatial': 2}},
        SINGLE | {'model': NoiseClassifier(nn.GroupNorm(2, 4))},
        {'model': NoiseClassifier(nn.InstanceNorm2d(4), spatial=2)},
    ],
)
def test_other_norms_are_not(tmp_path, changes):
    assert make_validated(tmp_path, train_cfg=epochs(1), **changes).train()


@MODELS.register_module(force=True)
class OwnStep(NoiseClassifier):
    def train_step(self, data, optim_wrapper):
        return BaseModel.train_step(
            self, {name: torch.cat([data[name]] * 2) for name in ('imgs', 'labels')}, optim_wrapper
        )


def test_steps_of_ones_own_are_not_tried(tmp_path):
    assert make_validated(tmp_path, model=OwnStep(), train_cfg=epochs(1), **SINGLE).train()


def test_a_hook_may_prepare_the_model_for_its_steps(tmp_path):
    class Prepared(NoiseClassifier):
        def forward(self, imgs, labels=None, mode='tensor'):
            return super().forward(imgs, labels, mode if mode != 'loss' else self.prepared)

    class Prepare(Hook):
        def before_train_iter(self, runner, batch_idx, data_batch=None):
            runner.model.prepared = 'loss'

    model = Prepared(spatial=2)
    assert make_validated(tmp_path, hooks=[Prepare()], model=model, train_cfg=epochs(1), **SINGLE).train()


def test_the_smallest_batch_is_that_of_the_run():
    def smallest(images, batch, steps, sampler=None, **kwargs):
        data = torch.utils.data.TensorDataset(torch.zeros(images))
        sampler = sampler(data) if sampler else torch.utils.data.SequentialSampler(data)
        loaded = torch.utils.data.DataLoader(data, batch, sampler=sampler, **kwargs)
        return find_smallest_batch(loaded, steps)

    from mmengine.dataset import InfiniteSampler

    assert smallest(13, 4, 10) == Batch(1, True)
    assert smallest(13, 4, 3) == Batch(4, False)  # it ends before the last batch
    assert smallest(13, 4, 10, drop_last=True) == smallest(12, 4, 10) == Batch(4, False)
    assert smallest(13, 4, 10, InfiniteSampler) == Batch(4, False)


def try_pair(rank, folder):
    """Both processes measure, and the run is the same with and without the check."""
    found = []
    for checked in (True, False):
        evaluator = [{'type': 'Accuracy'}, {'type': 'OwnMetric'}]
        runner = make_validated(
            folder / str(checked), evaluator, 'own/score', checked=checked, launcher='pytorch',
            model={'type': 'NoiseClassifier', 'spatial': 2}, train=loader(LabeledNoise(), 1), train_cfg=epochs(1),
        )  # fmt: skip
        found.append(runner.train().module.state_dict())
    return found


@pytest.mark.process
def test_two_processes_try_together(tmp_path):
    for checked, plain in run_pair(try_pair, tmp_path):
        assert all(torch.equal(checked[name], plain[name]) for name in checked)


def test_whatever_a_dry_run_changes_is_restored(capsys):
    model = NoiseClassifier()
    model.norm.eval()
    hub = MessageHub.get_instance(f'traces {next(NUMBERS)}')
    hub.update_scalar('loss', 1.0)
    hub.update_info('kept', 1)
    logger = MMLogger(f'traces {next(NUMBERS)}')
    runner = SimpleNamespace(model=model, message_hub=hub, logger=logger)
    modes = [module.training for module in model.modules()]
    buffers, state = dict(model.norm._buffers), copy.deepcopy(model.state_dict())
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    expected = [random.random(), np.random.rand(), torch.rand(()).item()]
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with leave_no_trace(runner):
        random.random(), np.random.rand(), torch.rand(3)
        model.eval()
        model.norm.running_mean += 1
        model.norm.running_var = torch.zeros(4)
        hub.update_scalar('loss', 2.0)
        hub.update_scalar('new', 2.0)
        hub.update_info('kept', 2)
        logger.warning('told')
        print('printed')
    assert [random.random(), np.random.rand(), torch.rand(()).item()] == expected
    assert [module.training for module in model.modules()] == modes
    assert all(model.norm._buffers[name] is one for name, one in buffers.items())
    assert all(torch.equal(one, state[name]) for name, one in model.state_dict().items())
    assert list(hub.log_scalars) == ['loss'] and hub.get_scalar('loss').data[0].tolist() == [1.0]
    assert hub.get_info('kept') == 1
    logger.warning('heard')
    shown = ''.join(capsys.readouterr())
    assert 'heard' in shown and 'told' not in shown and 'printed' not in shown
