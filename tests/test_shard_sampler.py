"""The order of images in shards: every image once, whoever asks, and few shards at a time."""

import itertools

import numpy as np
import pytest
from torch.utils.data import DataLoader

from mae_toolkit.datasets import EpochSampler, ShardDataset, ShardSampler, image_collate, samplers
from mae_toolkit.datasets.shards.sampler import shuffle_shards
from mae_toolkit.engine.data_loading import prepare_dataloader
from mae_toolkit.errors import UserError
from shard_sets import PIPELINE, make_tars

LENGTHS = [40, 50, 45, 48, 52, 40, 44, 46, 50, 50, 35, 48]


class Shards:
    """A dataset of shards without images."""

    def __init__(self, lengths=LENGTHS, repeat=1, remote=False):
        self.shard_lengths, self.repeat = np.array(lengths), repeat
        self.shards = [type('Shard', (), {'is_remote': remote})] * len(lengths)

    def __len__(self):
        return int(self.shard_lengths.sum()) * self.repeat

    def find_shards(self, indices):
        ends = np.cumsum(self.shard_lengths)
        return np.searchsorted(ends, np.asarray(indices) % ends[-1], side='right')

    def prefetch(self, shard):
        raise AssertionError

    def check_room(self, shards):
        raise AssertionError


@pytest.fixture
def group(monkeypatch):
    """Samplers of the processes of a group."""

    def make(world, dataset=None, **kwargs):
        made = []
        for rank in range(world):
            monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world))
            made.append(ShardSampler(dataset or Shards(), **{'streams': 6, 'window': 2} | kwargs))
        return made

    return make


@pytest.mark.parametrize('streams', [1, 2, 5, 64, 1000])
@pytest.mark.parametrize('window', [1, 2, 100])
@pytest.mark.parametrize('lengths', [LENGTHS, [3], [1, 0, 2], [200, 1, 1]])
def test_every_image_once(lengths, streams, window):
    order = shuffle_shards(lengths, [0, 0], streams, window)
    assert sorted(order) == list(range(sum(lengths)))


def test_the_law():
    """As the docstring says it, in plain Python."""
    lengths, seeds, streams, window = [5, 3, 6, 4], [7, 1], 3, 2
    rng = np.random.default_rng(seeds)
    firsts = [0, 5, 8, 14]
    line = [i for k in rng.permutation(4) for i in range(firsts[k], firsts[k] + lengths[k])]
    block = 9  # two shards of 18 / 4 images
    parts = [line[0:6], line[6:12], line[12:18]]
    for stream, part in enumerate(parts):
        cuts = [0, min(6, (block * (stream + 1) + 2) // 3), 6]
        shuffled = []
        for first, last in itertools.pairwise(cuts):
            piece = np.array(part[first:last], np.int64)
            rng.shuffle(piece)
            shuffled += piece.tolist()
        parts[stream] = shuffled
    want = [parts[i % 3][i // 3] for i in range(18)]
    assert shuffle_shards(lengths, seeds, streams, window).tolist() == want


def test_the_order_is_a_function_of_seed_and_epoch(group):
    (sampler,) = group(1, seed=4)
    first = list(sampler)
    assert list(sampler) == first and {epoch for epoch, _ in first} == {0}
    sampler.set_epoch(1)
    second = list(sampler)
    assert {epoch for epoch, _ in second} == {1}
    assert [i for _, i in first] != [i for _, i in second] and sorted(i for _, i in second) == list(range(548))
    assert list(group(1, seed=5)[0]) != first
    assert list(group(1, seed=4, shuffle=False)[0]) == [(0, i) for i in range(548)]


@pytest.mark.parametrize('world', [2, 3, 4])
def test_processes_together_see_what_one_sees(group, world):
    (alone,) = group(1, round_up=False)
    whole = list(alone)
    shares = [list(member) for member in group(world, round_up=False)]
    assert [shares[i % world][i // world] for i in range(len(whole))] == whole
    rounded = [list(member) for member in group(world)]
    assert {len(share) for share in rounded} == {len(group(world)[0])} and {k for s in rounded for k in s} == set(whole)


@pytest.mark.parametrize(('before', 'after'), [(1, 2), (2, 1), (2, 4), (4, 3)])
def test_an_epoch_goes_on_with_another_number_of_processes(group, before, after):
    batch, steps = 12, 5  # images per step of all processes
    whole = list(group(1)[0])
    seen = {key for member in group(before) for key in list(member)[: steps * batch // before]}
    assert seen == set(whole[: steps * batch])
    rest = []
    for member in group(after, round_up=False):
        member.set_start(steps * batch // after)
        rest += list(member)
    assert sorted(rest) == sorted(set(whole) - seen)


def test_a_process_keeps_to_few_shards(group):
    dataset = Shards([50] * 60)
    members = group(3, dataset, streams=6, window=2, round_up=False)
    shares = [dataset.find_shards(np.array(list(member))[:, 1]) for member in members]
    for share in shares:
        assert len(set(share)) <= 60 / 3 + 2  # of its own streams, and where they meet those of others
        used = [len(set(share[i : i + 20])) for i in range(0, len(share), 20)]
        assert max(used) <= 2 * (2 + 1) + 2  # two streams; a piece may lie across the end of a block
    (plain,) = [EpochSampler(dataset)]
    assert len(set(dataset.find_shards(np.array(list(plain))[:100, 1]))) > 40


def test_streams_come_to_new_shards_at_different_times(group):
    dataset = Shards([50] * 64)
    (sampler,) = group(1, dataset, streams=8, window=2)
    found = dataset.find_shards(sampler.list_indices())
    firsts = np.sort(np.unique(found, return_index=True)[1])[24:]  # behind the first blocks
    assert np.diff(firsts).max() < 500  # of 800 images that eight streams take to use up a block


def test_repetitions_have_orders_of_their_own(group):
    (sampler,) = group(1, Shards([10, 10], repeat=2))
    order = sampler.list_indices()
    assert sorted(order[:20]) == list(range(20)) and sorted(order[20:]) == list(range(20, 40))
    assert (order[20:] - 20).tolist() != order[:20].tolist()


def test_refusals(group):
    with pytest.raises(UserError, match='range has none: use EpochSampler'):
        ShardSampler(range(5))
    for name, wrong in (('streams', 0), ('window', 0), ('ahead', -1)):
        with pytest.raises(UserError, match=f'{name}={wrong} must be'):
            ShardSampler(Shards(), **{name: wrong})


def test_jumps_among_shards_of_another_machine_are_refused():
    dataset = dict(type='ShardDataset', urls='https://host/{00..99}.tar')
    loader = dict(dataset=dataset, sampler=dict(type='EpochSampler'))
    with pytest.raises(UserError, match=r'of https://host/.*ShardSampler'):
        prepare_dataloader(loader, 0, True, None)
    for fine in (dict(type='ShardSampler'), dict(type='EpochSampler', shuffle=False)):
        assert prepare_dataloader(loader | {'sampler': fine}, 0, True, None)['sampler']['type'] == fine['type']
    local = loader | {'dataset': dataset | {'urls': ['a.tar']}}
    assert prepare_dataloader(local, 3, True, None)['sampler'] == {'type': 'EpochSampler', 'seed': 3}


@pytest.mark.process
@pytest.mark.filterwarnings('ignore:This DataLoader will create')
def test_workers_make_no_difference(tmp_path, group):
    make_tars(tmp_path)
    dataset = ShardDataset(tmp_path, PIPELINE, seed=2)

    def see(world, workers, start=0):
        seen = []
        for sampler in group(world, dataset, streams=4, window=1, round_up=False):
            sampler.set_epoch(3)
            sampler.set_start(start // world)
            loader = DataLoader(dataset, 4 // world, False, sampler, num_workers=workers, collate_fn=image_collate)
            pairs = [pair for batch in loader for pair in zip(batch['names'], batch['imgs'], strict=True)]
            seen.append([(name, img.sum().item()) for name, img in pairs])
        return [seen[i % world][i // world] for i in range(sum(map(len, seen)))]

    whole = see(1, 0)
    assert len({name for name, _ in whole}) == len(whole) == 18
    for world, workers in itertools.product((1, 2), (1, 2, 3)):
        assert see(world, workers) == whole
        assert see(world, workers, start=8) == whole[8:]  # of which the first part was seen by others
