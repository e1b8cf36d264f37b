"""Windows of a map: their plans, padded sizes, and whole ones."""

import itertools

import numpy as np
import pytest
import torch

from mae_toolkit.models.cells import Cells, pack
from mae_toolkit.models.layers.windows import assemble, choose_padded_sizes, partition, plan_windows, shift_mask

SHIFTS = [((8, 12), (4, 4), (0, 0)), ((8, 12), (4, 4), (2, 2)), ((8, 12), (3, 5), (1, 2)), ((8, 12), (8, 4), (0, 2))]


def random_mask(batch=3):
    hidden = torch.rand(batch, 24).argsort(1) < 15
    return hidden.view(batch, 1, 4, 6)


@pytest.mark.parametrize(('size', 'window', 'shift'), SHIFTS)
def test_tokens_share_a_group_row_just_where_they_share_a_window(size, window, shift):
    packing = Cells(random_mask()).visible()
    plan = plan_windows(packing, size, window, shift)
    assert len(plan.groups) <= 4
    y, x = packing.positions(size)
    image = torch.arange(len(y)).view(-1, 1).expand_as(y)
    tokens = torch.stack([image, y, x], -1).flatten(0, 1).float() + 1  # (B*N, 3), nowhere zero
    parts = plan.spread(tokens)
    assert torch.equal(plan.collect(parts), tokens)
    seen = set()
    for part, group in zip(parts, plan.groups, strict=True):
        assert torch.equal((part == 0).all(-1), group.padding[:, 0, 0])
        for row, pairs in zip(part.int().tolist(), group.pairs, strict=True):
            held = [(i, b - 1, y - 1, x - 1) for i, (b, y, x) in enumerate(row) if b]
            where = {(b, (y - shift[0]) // window[0], (x - shift[1]) // window[1]) for _, b, y, x in held}
            assert len(where) == 1 and not where & seen  # a window lies in one row, and a row holds one window
            seen |= where
            for (i, _, y, x), (j, _, y2, x2) in itertools.product(held, held):
                a, b = divmod(int(pairs[i, j]), window[0] * window[1])
                assert (a // window[1] - b // window[1], a % window[1] - b % window[1]) == (y - y2, x - x2)


def test_padded_sizes_are_the_best_there_are():
    counts = np.random.default_rng(0).integers(1, 50, 300)
    sizes = choose_padded_sizes(counts, 3)
    assert len(sizes) == 3 and sizes[-1] == counts.max() and sizes == sorted(sizes)

    def cost(sizes):
        return sum(min(s for s in sizes if s >= c) ** 2 for c in counts)

    values = sorted(set(counts.tolist()))
    best = min(cost((*two, values[-1])) for two in itertools.combinations(values[:-1], 2))
    assert cost(sizes) == best
    assert choose_padded_sizes(np.array([7, 7]), 4) == [7]


@pytest.mark.parametrize(('size', 'window', 'shift'), SHIFTS)
def test_whole_windows(size, window, shift):
    x = torch.randn(2, *size, 5)
    windows = partition(x, window, shift)
    assert torch.equal(assemble(windows, size, window, shift), x)
    parted = shift_mask(size, window, shift, x.device)
    assert (parted is None) == (shift == (0, 0))


def test_packing_and_unpacking_are_each_others_gradient():
    packing = Cells(random_mask()).visible()
    x = torch.randn(3, 5, 8, 12, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: pack(x, packing), x)
    strip = pack(x, packing).detach()
    assert strip.shape == (3, 5, 9 * 2, 2)
