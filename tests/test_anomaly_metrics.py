"""Measures of anomaly detection: by hand, and those of anomalib where it is installed."""

import itertools

import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly import (
    compute_aupro,
    compute_auroc,
    compute_f1,
    compute_f1_max,
    measure_images,
    measure_pixels,
)

LIMITS = (0.05, 0.3, 1.0)


def random_maps(seed, digits=None, size=(20, 24)):
    """Maps and masks with several regions; with few digits, many scores are equal. The first image is normal."""
    rng = np.random.default_rng(seed)
    masks = [gaussian_filter(rng.random(size), 2) > 0.53 for _ in range(3)]
    masks[0][:] = False
    maps = [(rng.random(size) + 0.3 * mask).astype(np.float32) for mask in masks]
    return [np.round(one, digits) if digits else one for one in maps], masks


def find_regions(mask):
    """Connected regions by flooding from pixel to pixel, corners included: lists of (row, column)."""
    left, regions = set(zip(*np.nonzero(mask), strict=True)), []
    while left:
        open_pixels, region = [left.pop()], []
        while open_pixels:
            y, x = open_pixels.pop()
            region.append((y, x))
            for step in itertools.product((-1, 0, 1), repeat=2):
                other = (y + step[0], x + step[1])
                if other in left:
                    left.remove(other)
                    open_pixels.append(other)
        regions.append(region)
    return regions


def aupro_by_hand(maps, masks, limit):
    """The definition, threshold by threshold."""
    regions = [[one[y, x] for y, x in region] for one, mask in zip(maps, masks) for region in find_regions(mask)]
    background = np.concatenate([one[~mask] for one, mask in zip(maps, masks)])
    curve = [(0.0, 0.0)]
    for threshold in sorted({value for one in maps for value in one.ravel()}, reverse=True):
        overlap = np.mean([np.mean(np.array(region) >= threshold) for region in regions])
        curve.append((np.mean(background >= threshold), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x1 > limit:
            y1 = y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            x1 = limit
        area += (x1 - x0) * (y0 + y1) / 2
        if x1 >= limit:
            break
    return area / limit


@pytest.mark.parametrize('limit', LIMITS)
@pytest.mark.parametrize('digits', [None, 1])
def test_aupro_is_its_definition(limit, digits):
    maps, masks = random_maps(1, digits)
    assert compute_aupro(maps, masks, limit) == pytest.approx(aupro_by_hand(maps, masks, limit), abs=1e-9)


def test_small_regions_count_as_much_as_large_ones():
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = mask[4:9, 4:9] = True
    found = np.zeros((10, 10))
    found[4:9, 4:9] = 1  # the large region, but not the small one
    # At the first threshold one of two regions is covered, without a false positive; then all at once.
    assert compute_aupro([found], [mask], 0.3) == pytest.approx(0.5 + 0.15 / 2)
    mask = np.zeros((10, 10), bool)
    mask[0, 0] = mask[1, 1] = mask[5, 5] = True  # the first two touch at a corner: one region of two
    found = np.zeros((10, 10))
    found[5, 5] = 1
    assert compute_aupro([found], [mask], 0.3) == pytest.approx(0.5 + 0.15 / 2)


def test_auroc_and_f1_by_hand():
    scores, truth = np.array([0.1, 0.4, 0.4, 0.8, 0.9]), np.array([False, False, True, True, False])
    pairs = [(a, b) for a in scores[truth] for b in scores[~truth]]
    assert compute_auroc(scores, truth) == pytest.approx(np.mean([(a > b) + 0.5 * (a == b) for a, b in pairs]))
    by_hand = []
    for threshold in scores:
        found = scores >= threshold
        hits = (found & truth).sum()
        by_hand.append(2 * hits / (found.sum() + truth.sum()))
    assert compute_f1_max(scores, truth) == pytest.approx(max(by_hand))
    assert compute_f1(scores, truth, 0.4) == pytest.approx(2 * 1 / (2 + 2))  # above it: 0.8 and 0.9
    assert compute_f1(scores, truth, 2.0) == 0
    assert measure_images(scores, truth, 0.4)['f1'] == compute_f1(scores, truth, 0.4)


def test_what_is_not_defined_is_none():
    scores = np.array([0.1, 0.2])
    assert compute_auroc(scores, np.array([True, True])) is None
    assert compute_f1(scores, np.array([True, False]), None) is None
    assert compute_f1_max(scores, np.array([False, False])) is None
    maps, masks = [np.zeros((3, 3))], [np.zeros((3, 3), bool)]
    assert compute_aupro(maps, masks) is None and compute_aupro(maps, [~masks[0]]) is None
    assert set(measure_pixels(maps, masks, 0.5).values()) == {None}


def test_masks_of_another_size_and_wrong_limits_are_refused():
    with pytest.raises(UserError, match=r'Map 0 has the shape \(3, 3\), and its mask \(4, 3\)'):
        measure_pixels([np.zeros((3, 3))], [np.zeros((4, 3), bool)], None)
    with pytest.raises(UserError, match='2 maps and 1 masks'):
        compute_aupro([np.zeros((3, 3))] * 2, [np.zeros((3, 3), bool)])
    with pytest.raises(UserError, match='limit=0 must be above 0'):
        compute_aupro([np.zeros((3, 3))], [np.zeros((3, 3), bool)], 0)


@pytest.mark.parametrize('digits', [None, 1])
def test_the_measures_are_those_of_anomalib(digits):
    metrics = pytest.importorskip('anomalib.metrics', reason='anomalib, which needs an environment of its own')
    maps, masks = random_maps(2, digits, (40, 48))
    scores, truth = torch.tensor(np.stack(maps)), torch.tensor(np.stack(masks))
    for limit in LIMITS:
        theirs = metrics.aupro._AUPRO(fpr_limit=limit)
        theirs.update(scores, truth)
        assert compute_aupro(maps, masks, limit) == pytest.approx(float(theirs.compute()), abs=1e-6)
    for ours, theirs in ((compute_auroc, metrics.auroc._AUROC()), (compute_f1_max, metrics.f1_score._F1Max())):
        theirs.update(scores.flatten(), truth.flatten())
        assert ours(np.stack(maps), np.stack(masks)) == pytest.approx(float(theirs.compute()), abs=1e-6)
