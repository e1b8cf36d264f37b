"""Measures of patches: places found in another crop, effective rank; against known values."""

import math

import pytest
import torch

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import compute_effective_rank, compute_patch_knn_accuracy
from mae_toolkit.evaluation.patch_knn import Crops


def crops(*boxes):
    """Crops by (center x, center y, half side, mirrored)."""
    return Crops(torch.tensor([[[-s if m else s, 0, x], [0, s, y]] for x, y, s, m in boxes], dtype=torch.float32))


WHOLE = crops((0.0, 0.0, 1.0, False))


def place_features(which, rows, columns):
    """Features that are unlike everywhere, and the same wherever the place in the image is the same."""
    places = which.locate(rows, columns)  # (B, h, w, 2)
    waves = torch.cat([torch.cat([f(places * n) for f in (torch.sin, torch.cos)], -1) for n in (0.7, 1.3, 2.1)], -1)
    return waves.permute(0, 3, 1, 2)


def test_the_whole_image_is_a_crop_of_itself():
    imgs = torch.rand(1, 3, 8, 12)
    torch.testing.assert_close(WHOLE.cut(imgs), imgs)
    corner = crops((-0.5, -0.5, 0.5, False)).cut(torch.arange(16.0).view(1, 1, 4, 4))
    assert corner[0, 0, -1, -1] == 4 * 1.25 + 1.25  # a quarter of a pixel before the middle of the image
    mirrored = crops((0.0, 0.0, 1.0, True)).cut(imgs)
    torch.testing.assert_close(mirrored, imgs.flip(3))


def test_centers_of_patches_are_where_they_lie_in_the_image():
    places = crops((0.5, 0.0, 0.5, False)).locate(2, 2)[0]
    torch.testing.assert_close(places[0, 0], torch.tensor([0.25, -0.25]))
    torch.testing.assert_close(places[1, 1], torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(crops((0.5, 0.0, 0.5, True)).measure_patches(2, 4), torch.tensor([[0.25, 0.5]]))


def test_crops_stay_within_the_image_and_differ():
    drawn = Crops.draw(64, torch.Generator().manual_seed(0))
    assert drawn.locate(8, 8).abs().max() <= 1
    assert len({tuple(theta.flatten().tolist()) for theta in drawn.theta}) == 64
    sides = drawn.theta[:, 1, 1]
    assert sides.min() >= 0.6 and sides.max() <= 1 and 10 < (drawn.theta[:, 0, 0] < 0).sum() < 54
    again = Crops.draw(64, torch.Generator().manual_seed(0))
    assert torch.equal(drawn.theta, again.theta)


@pytest.mark.parametrize('other', [(0.0, 0.0, 1.0, False), (0.2, -0.1, 0.7, True)])
def test_patches_that_know_their_place_find_it(other):
    other = crops(other)
    accuracy = compute_patch_knn_accuracy(place_features(WHOLE, 8, 8), place_features(other, 8, 8), WHOLE, other)
    assert accuracy > 0.99


def test_patches_of_one_value_find_nothing_but_the_first():
    flat = torch.ones(1, 4, 8, 8)
    assert compute_patch_knn_accuracy(flat, flat, WHOLE, WHOLE) == pytest.approx(4 / 64)  # the first and its neighbors


def test_a_mirrored_crop_is_not_found_by_its_position_alone():
    features, mirrored = place_features(WHOLE, 8, 8), crops((0.0, 0.0, 1.0, True))
    accuracy = compute_patch_knn_accuracy(features, features, WHOLE, mirrored)
    assert accuracy == pytest.approx(2 / 8)  # the two columns beside the middle


def test_only_what_the_other_crop_shows_is_counted():
    left, right = crops((-0.5, 0.0, 0.5, False)), crops((0.5, 0.0, 0.5, False))
    features = torch.rand(1, 4, 4, 4)
    with pytest.raises(UserError, match='show the same part'):
        compute_patch_knn_accuracy(features, features, left, right)
    middle = crops((0.0, 0.0, 0.5, False))
    queries, keys = place_features(WHOLE, 8, 8), place_features(middle, 8, 8)
    assert compute_patch_knn_accuracy(queries, keys, WHOLE, middle) > 0.99


def test_effective_ranks_of_known_matrices():
    assert compute_effective_rank(torch.eye(5)) == pytest.approx(5)
    line = torch.outer(torch.arange(1.0, 9), torch.tensor([1.0, -2, 3]))
    assert compute_effective_rank(line) == pytest.approx(1, abs=1e-6)
    p = torch.tensor([0.5, 0.25, 0.25])
    assert compute_effective_rank(torch.diag(p) * 7) == pytest.approx(math.exp(-(p * p.log()).sum()))
    assert compute_effective_rank(torch.zeros(4, 3)) == 0
    assert math.isnan(compute_effective_rank(torch.full((4, 3), float('nan'))))
