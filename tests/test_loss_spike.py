"""A run whose loss spikes goes on from the checkpoint before it, without the batches between, and remembers that."""

import json
import os
import signal
import time

import pytest
import torch
from mmengine.config import Config
from torch.distributed import checkpoint as dcp

from engine_toys import ToyImages, loader, make_runner
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.engine import hooks
from mae_toolkit.engine.preemption import Preempted
from mae_toolkit.engine.skips import FILE, LossSpike, measure_deviation, merge_ranges, read_skips
from mae_toolkit.engine.spikes import train_past_spikes
from mae_toolkit.errors import UserError
from test_distributed import run_pair

BAD = 3  # an image that comes once an epoch
HOOK = {'type': 'LossSpikeHook', 'warmup': 4, 'factor': 3.0}


class PoisonedImages(ToyImages):
    """One image is far too bright; its batch makes the loss, and then the weights, useless."""

    def __getitem__(self, key):
        item = super().__getitem__(key)
        return item | {'img': item['img'] * 200} if item['name'] == f'{BAD}.png' else item


def run(folder, images, skip=(), resume=False, epochs=2, kind='SafeCheckpointHook', **options):
    """Train with a checkpoint every 2 iterations; the runner, and the checkpoints from which it went on."""
    hook = HOOK | {'skip': skip} | options.pop('hook', {})
    cfg = Config(dict(load_from=None, resume=resume))

    def build():
        began.append(cfg.load_from)
        return make_runner(
            folder,
            [hook, {'type': 'EMAHook'}],
            epochs=epochs,
            checkpoint={'type': kind, 'interval': 2, 'by_epoch': False},
            train_dataloader=loader(images),
            load_from=cfg.load_from,
            resume=cfg.resume,
            experiment_name=f'spike_{folder}',
            **options,
        )

    began = []
    return train_past_spikes(cfg, build), began


def last(folder):
    checkpoint = load(newest_checkpoint(folder))
    return {**checkpoint['state_dict'], **checkpoint['ema_state_dict']}, checkpoint


def spikes_at(epoch):
    """The iteration (from 0) at which the poisoned image comes, without a second process."""
    order = torch.randperm(12, generator=torch.Generator().manual_seed(epoch)).tolist()
    return epoch * 6 + order.index(BAD) // 2


def expected_skips():
    """From the checkpoint before each spike to behind it; the first batches have no history to compare with."""
    spikes = [spikes_at(epoch) for epoch in range(2)]
    assert spikes == [4, 9]
    return merge_ranges([(spike // 2 * 2, spike + 1) for spike in spikes])


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['SafeCheckpointHook', 'ShardedCheckpointHook'])
def test_a_spike_is_skipped_as_if_its_batches_had_not_been(tmp_path, kind, monkeypatch):
    write = dcp.FileSystemWriter.write_data  # so slowly that a spike comes before a checkpoint is written
    monkeypatch.setattr(dcp.FileSystemWriter, 'write_data', lambda *args: (time.sleep(0.1), write(*args))[1])
    _, began = run(tmp_path / 'found', PoisonedImages(), kind=kind)
    skips = expected_skips()
    assert read_skips(tmp_path / 'found') == skips and len(began) == 3
    # The same iterations are left out from the beginning, of data without the poison.
    run(tmp_path / 'known', ToyImages(), skip=skips)
    (found, checkpoint), (known, other) = last(tmp_path / 'found'), last(tmp_path / 'known')
    assert checkpoint['meta']['iter'] == other['meta']['iter'] == 12
    assert found.keys() == known.keys() and all(torch.equal(value, known[name]) for name, value in found.items())
    run(tmp_path / 'whole', ToyImages())
    weights, whole = last(tmp_path / 'whole')
    assert not all(torch.equal(value, found[name]) for name, value in weights.items())
    rates = [[schedule['_last_value'] for schedule in one['param_schedulers']] for one in (checkpoint, whole)]
    assert rates[0] == rates[1]  # skipped iterations count for schedules


@pytest.mark.slow
def test_a_resumed_run_remembers_what_it_skips(tmp_path):
    run(tmp_path, PoisonedImages())
    weights = last(tmp_path)[0]
    skips = read_skips(tmp_path)
    keep = skips[0][0]
    for path in tmp_path.glob('iter_*.pth'):
        if int(path.stem[5:]) > keep:
            path.unlink()
    _, began = run(tmp_path, PoisonedImages(), resume='auto')
    assert len(began) == 1 and read_skips(tmp_path) == skips
    assert all(torch.equal(value, weights[name]) for name, value in last(tmp_path)[0].items())


def test_a_signal_in_the_step_of_a_spike_still_ends_the_run(tmp_path):
    class PoisonedImagesAndASignal(PoisonedImages):
        def __getitem__(self, key):
            item = super().__getitem__(key)
            if item['name'] == f'{BAD}.png':
                os.kill(os.getpid(), signal.SIGUSR1)
            return item

    with pytest.raises(Preempted, match='SIGUSR1 came before the first step'):
        run(tmp_path, PoisonedImagesAndASignal())
    assert read_skips(tmp_path)  # the run was taken back, and goes on from there
    assert run(tmp_path, PoisonedImages(), resume='auto')[0].iter == 12


@pytest.mark.parametrize('text', ['[[400, 417', '[4, 5]', '[[1, 2, 3]]', '{"a": 1}', '[["a", 2]]'])
def test_a_damaged_list_of_skips_is_named_with_the_remedy(tmp_path, text):
    (tmp_path / FILE).write_text(text)
    with pytest.raises(UserError, match=rf'{FILE} holds no pairs .*\[\[400, 417\]\], or remove it'):
        read_skips(tmp_path)


def test_a_new_run_does_not(tmp_path):
    (tmp_path / FILE).write_text(json.dumps([[0, 3]]))
    runner, _ = run(tmp_path, ToyImages(), epochs=1)
    assert runner.train_loop.skips == [] and not (tmp_path / FILE).exists()


def test_limits_and_refusals(tmp_path):
    with pytest.raises(UserError, match='after 0 rollbacks: lower the learning rate'):
        run(tmp_path / 'many', PoisonedImages(), hook={'max_rollbacks': 0})
    with pytest.raises(UserError, match='warmup=9 is more than window=8'):
        hooks.LossSpikeHook(warmup=9, window=8)
    with pytest.raises(UserError, match='must be pairs'):
        hooks.LossSpikeHook(skip=[(3, 3)])
    with pytest.raises(UserError, match="must be 'loss' or 'grad_norm'"):
        hooks.LossSpikeHook(monitor='lr')
    with pytest.raises(UserError, match='needs optim_wrapper.clip_grad'):
        run(tmp_path / 'norm', ToyImages(), hook={'monitor': 'grad_norm'})


def test_the_norm_of_the_gradients_is_watched(tmp_path):
    clip = {'clip_grad': {'max_norm': 1.0}}
    _, began = run(tmp_path, PoisonedImages(), hook={'monitor': 'grad_norm'}, wrapper=clip)
    assert len(began) == 3 and read_skips(tmp_path) == expected_skips()


@pytest.mark.parametrize('value', [float('nan'), float('inf')])
def test_what_is_not_finite_is_left_to_nan_guard_and_loss_scaling(tmp_path, monkeypatch, value):
    read = hooks.LossSpikeHook._read
    monkeypatch.setattr(
        hooks.LossSpikeHook,
        '_read',
        lambda self, runner, *args: value if runner.iter == 7 else read(self, runner, *args),
    )
    runner, began = run(tmp_path, ToyImages())
    assert began == [None] and read_skips(tmp_path) == [] and runner.iter == 12
    assert len(runner.message_hub.get_info('loss_spike_history')) == 11


def test_deviations_are_robust():
    history = [1.0, 1.1, 0.9, 1.0, 50.0, 1.0, 1.1, 0.9]
    deviation, ratio = measure_deviation(2.0, history)
    assert 6 < deviation < 20 and ratio == 2
    assert measure_deviation(1.0, [1.0] * 5) == (0, 1)
    assert merge_ranges([(4, 6), (0, 2), (6, 7), (5, 6)]) == [(0, 2), (4, 7)]


def spike_on_one(rank, folder):
    """Only one of the processes sees the image."""
    runner, began = run(folder / 'pair', PoisonedImages(), launcher='pytorch', epochs=3)
    return {'began': began, 'skips': runner.train_loop.skips, 'weights': runner.model.module.state_dict()}


@pytest.mark.process
def test_all_processes_roll_back_together(tmp_path):
    first, second = run_pair(spike_on_one, tmp_path)
    assert first['skips'] == second['skips'] != [] and first['began'] == second['began']
    assert all(torch.equal(value, second['weights'][name]) for name, value in first['weights'].items())


def test_the_exception_names_the_checkpoint():
    assert LossSpike('message', 'iter_2.pth').checkpoint == 'iter_2.pth'
