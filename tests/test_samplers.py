"""The order of images: seeded, shared among processes, and able to begin anywhere."""

import pytest

from mae_toolkit.datasets import EpochSampler, samplers


@pytest.fixture
def group(monkeypatch):
    """Samplers of the processes of a group."""

    def make(world, size, **kwargs):
        made = []
        for rank in range(world):
            monkeypatch.setattr(samplers, 'get_dist_info', lambda rank=rank: (rank, world))
            made.append(EpochSampler(range(size), **kwargs))
        return made

    return make


def test_each_epoch_has_its_own_order_of_all_images():
    sampler = EpochSampler(range(20), seed=5)
    first = list(sampler)
    assert first == list(sampler) and len(sampler) == 20
    assert sorted(index for _, index in first) == list(range(20)) and {epoch for epoch, _ in first} == {0}
    sampler.set_epoch(3)
    third = list(sampler)
    assert {epoch for epoch, _ in third} == {3}
    assert [i for _, i in third] != [i for _, i in first] != list(range(20))
    other = EpochSampler(range(20), seed=6)
    assert list(other) != first
    assert list(EpochSampler(range(20), seed=None)) == list(EpochSampler(range(20), seed=0))


def test_without_shuffling():
    assert list(EpochSampler(range(3), shuffle=False)) == [(0, 0), (0, 1), (0, 2)]


@pytest.mark.parametrize('world', [2, 3, 4])
def test_processes_together_see_what_one_sees(group, world):
    size, batch = 48, 12
    (single,) = group(1, size, seed=1)
    members = group(world, size, seed=1)
    for sampler in (single, *members):
        sampler.set_epoch(2)
    alone, shares = list(single), [list(member) for member in members]
    part = batch // world
    for step in range(size // batch):
        together = {key for share in shares for key in share[step * part : (step + 1) * part]}
        assert together == set(alone[step * batch : (step + 1) * batch])


def test_round_up_gives_all_the_same_number(group):
    members = group(3, 10)
    shares = [list(member) for member in members]
    assert [len(share) for share in shares] == [len(member) for member in members] == [4, 4, 4]
    assert {i for share in shares for _, i in share} == set(range(10))
    members = group(3, 10, round_up=False)
    shares = [list(member) for member in members]
    assert [len(share) for share in shares] == [len(member) for member in members] == [4, 3, 3]
    assert sorted(i for share in shares for _, i in share) == list(range(10))


def test_more_processes_than_images(group):
    assert [len(list(member)) for member in group(5, 2)] == [1] * 5
    assert [len(list(member)) for member in group(5, 2, round_up=False)] == [1, 1, 0, 0, 0]


@pytest.mark.parametrize('start', [0, 3, 10])
def test_an_epoch_may_begin_within(group, start):
    for member in group(2, 20, seed=4):
        whole = list(member)
        member.set_start(start)
        assert list(member) == whole[start:]
        assert list(member) == whole  # only once
