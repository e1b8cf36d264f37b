"""What each masking hides."""

import json

import pytest
import torch

from mae_toolkit.engine.hooks import MaskingScheduleHook
from mae_toolkit.errors import UserError
from mae_toolkit.models import Masking
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.registry import build
from parts import MASKINGS


def masks(name, batch, h, w, seed=0, **options):
    """Masks (B, h, w) of grids of h x w cells."""
    torch.manual_seed(seed)
    masking = build(Masking, {'type': name, 'unit': 4, **options})
    return masking(torch.zeros(batch, 1, 4 * h, 4 * w))[:, 0]


def neighbors_alike(mask):
    """Share of cells whose right neighbor is as hidden as they are."""
    return (mask[:, :, 1:] == mask[:, :, :-1]).float().mean().item()


def test_blocks_are_rectangles_and_reach_the_edges():
    """With one block of all the cells asked for, the mask is a rectangle, but for the last cells to the exact count."""
    hidden = masks('BlockMasking', 400, 14, 14, ratio=0.4, min_cells=78, blocks=1)
    rows, columns = hidden.any(2).sum(1), hidden.any(1).sum(1)
    area = rows * columns
    assert ((area - 79).abs() <= 14).float().mean() > 0.5  # others are filled up by single cells
    many = masks('BlockMasking', 400, 14, 14, ratio=0.4, count='int_hidden')
    share = many.float().mean(0)
    assert (many.flatten(1).sum(1) == 78).all()
    assert min(share[0].min(), share[-1].min(), share[:, 0].min(), share[:, -1].min()) > 0.02  # the edges, too
    assert share[5:9, 5:9].mean() > 2 * share[[0, 0, -1, -1], [0, -1, 0, -1]].mean()
    torch.testing.assert_close(share, share.flip(0), rtol=0, atol=0.12)  # no side is preferred
    torch.testing.assert_close(share, share.flip(1), rtol=0, atol=0.12)
    assert neighbors_alike(many) > 0.8 > neighbors_alike(masks('RandomMasking', 400, 14, 14, ratio=0.4))


def test_inverse_blocks_are_visible():
    visible = ~masks('InverseBlockMasking', 200, 14, 14, ratio=0.8)
    assert neighbors_alike(visible) > 0.85 > neighbors_alike(masks('RandomMasking', 200, 14, 14, ratio=0.8))
    assert visible.float().mean(0).min() > 0


def test_grids_hide_whole_blocks():
    hidden = masks('GridMasking', 50, 16, 12, ratio=0.75, block=4)
    cells = hidden[:, ::4, ::4]
    assert torch.equal(upsample(cells[:, None], (16, 12))[:, 0], hidden)
    assert (cells.flatten(1).sum(1) == 9).all()
    ragged = masks('GridMasking', 50, 7, 5, ratio=0.5, block=3)
    assert (ragged.flatten(1).sum(1) == 18).all()


@pytest.mark.parametrize(('ratio', 'visible', 'blocks'), [(0.75, 49, 1), (0.8125, 36, 0)])
def test_uniform_maskings_leave_as_many_cells_in_each_block(ratio, visible, blocks):
    """UM-MAE: one of four stays visible at any position as often; a quarter of those is hidden by the second mask."""
    shown = ~masks('UniformMasking', 4000, 14, 14, ratio=ratio)
    each = shown.unflatten(1, (7, 2)).unflatten(3, (7, 2)).sum((2, 4))
    assert each.max() == 1 and each.min() == blocks
    assert (shown.flatten(1).sum(1) == visible).all()
    share = shown.float().mean(0)
    torch.testing.assert_close(share, torch.full_like(share, visible / 196), rtol=0, atol=0.035)


@pytest.mark.parametrize('grid', [0, 1])
@pytest.mark.parametrize('balanced', [True, False])
def test_places_are_drawn_without_replacement(data, balanced, grid):
    """How many blocks show a given place: as often as in the official code, or as if blocks were independent."""
    expected = json.loads((data / 'ummae_mask_statistics.json').read_text())['uniform_sampling']['grids'][grid]
    (h, w), numbers = expected['grid'], expected['expected']
    shown = ~masks('UniformMasking', 8000, h, w, ratio=0.75, balanced=balanced)
    places = shown.unflatten(1, (h // 2, 2)).unflatten(3, (w // 2, 2)).transpose(2, 3).flatten(3)  # (B, ., ., 4)
    assert (places.sum(3) == 1).all()
    counts = places.flatten(1, 2).sum(1).double()  # (B, 4)
    independent, drawn = numbers['variance_if_blocks_were_independent'], numbers['variance_of_that_number']
    assert counts.mean(0).tolist() == pytest.approx(
        [numbers['mean_number_of_blocks_with_a_given_pattern']] * 4, rel=0.01
    )
    assert counts.var(0).tolist() == pytest.approx([drawn if balanced else independent] * 4, rel=0.06)
    alike = (places[:, :, 1:] & places[:, :, :-1]).any(3).double().mean().item()
    same = numbers['P_two_given_blocks_have_the_same_pattern'] if balanced else 0.25
    assert alike == pytest.approx(same, abs=0.002)


def test_uniform_maskings_of_odd_sizes_and_other_ratios_have_the_exact_count():
    hidden = masks('UniformMasking', 20, 7, 5, ratio=0.6, block=3)
    assert (hidden.flatten(1).sum(1) == 35 - 14).all()


def test_colors_of_noise_have_their_frequencies():
    """The mean frequency of the masks rises from red over green to blue; white noise lies between."""
    means = {}
    for color in ('red', 'green', 'blue'):
        means[color] = mean_frequency(masks('ColorNoiseMasking', 200, 16, 16, ratio=0.5, color=color))
    white = mean_frequency(masks('RandomMasking', 200, 16, 16, ratio=0.5))
    assert means['red'] < means['green'] < white < means['blue']
    purple = spectrum(masks('ColorNoiseMasking', 400, 16, 16, ratio=0.5, color='purple'))
    assert purple[1:3].mean() > purple[4:6].mean() < purple[9:].mean()  # little between


def spectrum(mask):
    """Power of masks (B, n, n) by the rounded length of the frequency."""
    power = torch.fft.fft2(mask.float() - mask.float().mean((1, 2), keepdim=True)).abs().square().mean(0)
    f = torch.fft.fftfreq(len(power)) * len(power)
    radius = (f[:, None] ** 2 + f**2).sqrt().round().long().flatten()
    count = torch.bincount(radius)
    return torch.bincount(radius, power.flatten()) / count


def mean_frequency(mask):
    power = spectrum(mask)
    return (power * torch.arange(len(power))).sum() / power.sum()


@pytest.mark.parametrize('name', MASKINGS)
def test_masks_follow_the_seed_and_differ_between_images(name):
    config = dict(MASKINGS[name])
    kind = config.pop('type')
    a, b, c = (masks(kind, 4, 8, 12, seed=seed, **config) for seed in (1, 1, 2))
    assert torch.equal(a, b)
    assert not torch.equal(a, c)
    assert not torch.equal(a[0], a[1])
    shared = masks(kind, 4, 8, 12, shared=True, **config)
    assert (shared == shared[:1]).all()


@pytest.mark.parametrize(
    ('config', 'words'),
    [
        ({'type': 'BlockMasking', 'min_cells': 0}, 'min_cells=0'),
        ({'type': 'GridMasking', 'block': 0}, 'block=0 must be a whole number of cells'),
        ({'type': 'ColorNoiseMasking', 'color': 'pink'}, "color='pink' must be one of red, green"),
        ({'type': 'ColorNoiseMasking', 'fine': 2.0}, 'fine=2.0 .* less than coarse=1.5'),
    ],
)
def test_maskings_that_cannot_be(config, words):
    with pytest.raises(UserError, match=words):
        build(Masking, config)


def test_schedules_go_through_their_values():
    linear = MaskingScheduleHook('ratio', (0.4, 0.8, 0.6))
    assert [round(linear.value(p), 6) for p in (0, 0.25, 0.5, 0.75, 1)] == [0.4, 0.6, 0.8, 0.7, 0.6]
    step = MaskingScheduleHook('unit', (64, 32), mode='step')
    assert [step.value(p) for p in (0, 0.49, 0.5, 1)] == [64, 64, 32, 32]
    with pytest.raises(UserError, match="mode='cosine' must be"):
        MaskingScheduleHook('ratio', (0, 1), mode='cosine')
