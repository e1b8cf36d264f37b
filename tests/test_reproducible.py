"""Random numbers of datasets of other libraries follow from the sample's key, after a resumption too."""

import itertools
import random

import numpy as np
import pytest
import torch
from mmengine.dataset import DefaultSampler, InfiniteSampler
from torch.utils.data import BatchSampler

from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.datasets.keyed_samplers import KeyedBatchSampler, KeyedSampler
from mae_toolkit.randomness import seeded_by, seeded_torch
from pictures import make_pictures, run


@pytest.fixture
def folder(tmp_path):
    return make_pictures(tmp_path)


GROUPS = {'batch_sampler': {'type': 'WideOrTall', 'drop_last': False}}
EPOCHS = {'type': 'EpochBasedTrainLoop', 'max_epochs': 3}
SHUFFLED = {'type': 'DefaultSampler', 'shuffle': True}
WAYS = {
    'endless': {},
    'epochs': {'loop': EPOCHS, 'sampler': SHUFFLED, 'batch_size': 5},
    'epochs without the last batch': {'loop': EPOCHS, 'sampler': SHUFFLED, 'batch_size': 5, 'drop_last': True},
    'groups by epochs': {'loop': EPOCHS, 'sampler': SHUFFLED} | GROUPS,
    'groups by steps': GROUPS,
    'slices': {'loop': EPOCHS, 'sampler': SHUFFLED, 'num_batch_per_epoch': 4},
    'repeated': {'repeat': 2},
}


def settings(way, folder):
    way = dict(WAYS[way])
    times, pictures = way.pop('repeat', None), {'type': 'Pictures', 'folder': folder}
    return way | ({'dataset': {'type': 'RepeatDataset', 'times': times, 'dataset': pictures}} if times else {})


@pytest.mark.process
@pytest.mark.parametrize('way', WAYS)
def test_a_run_draws_the_same_after_a_resumption_and_with_any_number_of_workers(way, folder, tmp_path):
    whole = run(folder, tmp_path / 'whole', **settings(way, folder))
    stop = max(whole) - 2
    first = run(folder, tmp_path / 'parts', stop=stop, **settings(way, folder))
    workers = {} if way == 'slices' else {'num_workers': 2, 'persistent_workers': way == 'endless'}
    rest = run(folder, tmp_path / 'parts', resume=True, **settings(way, folder) | workers)
    assert min(rest) == stop and first | rest == whole
    drawn = [numbers[:3] for samples in whole.values() for numbers in samples]
    assert len(set(drawn)) == len(drawn)  # nothing is drawn twice, in later epochs neither


@pytest.mark.process
def test_steps_over_a_sampler_with_epochs_go_on_in_a_later_epoch(folder, tmp_path, monkeypatch):
    monkeypatch.setattr('time.sleep', lambda seconds: None)  # MMEngine waits before each of these epochs
    loop = {'loop': {'type': 'IterBasedTrainLoop', 'max_iters': 15}, 'sampler': SHUFFLED}
    whole = run(folder, tmp_path / 'whole', **loop)
    first = run(folder, tmp_path / 'parts', stop=9, **loop)
    assert first | run(folder, tmp_path / 'parts', resume=True, **loop) == whole


@pytest.mark.process
def test_a_run_without_a_seed_goes_on_with_the_one_that_it_drew(folder, tmp_path):
    first = run(folder, tmp_path / 'parts', stop=8, seed=None)
    rest = run(folder, tmp_path / 'parts', resume=True, seed=None)
    seed = int(load(newest_checkpoint(tmp_path / 'parts'))['meta']['seed'])
    assert first | rest == run(folder, tmp_path / 'whole', seed=seed)


def test_a_dataset_of_ours_under_another_sampler_is_told_the_epoch():
    sampler = KeyedSampler(InfiniteSampler(range(4), shuffle=False), range(4), as_pairs=True)
    assert list(itertools.islice(sampler, 6)) == [(0, 0), (0, 1), (0, 2), (0, 3), (1, 0), (1, 1)]
    sampler = KeyedSampler(DefaultSampler(range(4), shuffle=False), range(4), as_pairs=True)
    sampler.set_epoch(2)
    assert list(sampler) == [(2, 0), (2, 1), (2, 2), (2, 3)]


@pytest.mark.parametrize('rank', [0, 1])
def test_processes_share_the_places_between_them(rank, monkeypatch):
    monkeypatch.setattr('mae_toolkit.datasets.keyed_samplers.get_dist_info', lambda: (rank, 2))
    draws = list(KeyedSampler(DefaultSampler(range(6), shuffle=False), range(6)))
    assert [draw.position for draw in draws] == [rank + 2 * i for i in range(6)]
    batches = KeyedBatchSampler(BatchSampler(range(6), 4, drop_last=False))
    assert [draw.position for batch in batches for draw in batch] == [rank + 2 * i for i in range(6)]


def test_global_generators_are_left_as_they_were():
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    with seeded_by(3, 0, 5):
        first = random.random(), np.random.rand(), float(torch.rand(()))
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    with seeded_by(3, 0, 5):
        assert first == (random.random(), np.random.rand(), float(torch.rand(())))
    with seeded_by(3, 5, 0):
        assert not set(first) & {random.random(), np.random.rand(), float(torch.rand(()))}


def test_torch_is_seeded_for_a_while():
    torch.manual_seed(0)
    expected = torch.rand(2)
    torch.manual_seed(0)
    with seeded_torch(7):
        drawn = torch.rand(2)
    with seeded_torch(7):
        assert torch.equal(torch.rand(2), drawn)
    assert torch.equal(torch.rand(2), expected)
