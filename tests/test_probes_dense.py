"""Dense probes: patches, masks and pixels, against scikit-learn and examples by hand."""

import numpy as np
import pytest
import torch
from sklearn.metrics import jaccard_score
from torch.nn.functional import avg_pool2d

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.probes.data import Part, ProbeData, hold_out
from mae_toolkit.evaluation.probes.dense import run_dense_knn, run_dense_logistic
from mae_toolkit.evaluation.probes.segmentation import (
    IGNORED,
    count_pairs,
    draw_patches,
    enlarge,
    label_patches,
    score_pairs,
)


def squares(count, seed, size=24):
    """Masks of squares on a background, and maps of stride 4 that hold their mean beside noise."""
    generator = np.random.default_rng(seed)
    masks = np.zeros((count, size, size), np.int16)
    for mask in masks:
        for label in (1, 2):
            y, x = generator.integers(0, size - 8, 2)
            mask[y : y + 8, x : x + 8] = label
    masks = torch.from_numpy(masks)
    one_hot = torch.stack([masks == label for label in range(3)], 1).float()
    maps = avg_pool2d(one_hot, 4) + 0.05 * torch.from_numpy(generator.normal(size=(count, 3, 6, 6))).float()
    return Part(maps.half(), masks)


def data_of(count=30):
    parts = [squares(number, seed) for seed, number in enumerate((count, 6, 8))]
    return ProbeData(*parts, 3, hold_out([0] * count, 0))


def test_a_patch_has_the_class_of_most_of_its_pixels():
    masks = torch.tensor([[[0, 0, 1, 1, 2], [0, 1, 1, 2, 2], [-1, -1, 0, 2, 2], [-1, 0, 0, 2, -1], [1, 1, 1, 0, -1]]])
    # Patches of 2 x 2 pixels, narrower at the end: 3 x 3.
    expected = [[[0, 1, 2], [IGNORED, 0, 2], [1, 0, IGNORED]]]
    found = label_patches(masks.short(), 3, 3, 3)
    assert found.tolist() == expected
    wide = enlarge(found, 5, 5)
    assert wide[0, :2, :2].unique().tolist() == [0] and wide[0, 4].tolist() == [1, 1, 0, 0, IGNORED]


def test_scores_are_those_of_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    masks = torch.randint(-1, 4, (3, 9, 7), generator=generator)
    predicted = torch.randint(0, 4, (3, 9, 7), generator=generator)
    predicted[predicted == 3] = 0
    masks[masks == 2] = 1  # class 2 is only predicted
    counted = masks >= 0
    found = score_pairs(count_pairs(predicted, masks.short(), 6))
    expected = jaccard_score(masks[counted], predicted[counted], average='macro')
    assert found['miou'] == pytest.approx(expected)
    assert found['pixel_accuracy'] == pytest.approx((masks == predicted)[counted].double().mean().item())


def test_patches_are_drawn_with_their_labels():
    part = squares(5, 0)
    part.labels[0] = IGNORED
    whole = draw_patches(part, 3, 10_000, 0)
    assert len(whole) == 4 * 36
    labels = label_patches(part.labels, 6, 6, 3)
    tokens = part.features.movedim(1, -1)[1:].flatten(0, 2).float()
    known = {tuple(vector.tolist()): int(label) for vector, label in zip(tokens, labels[1:].flatten(), strict=True)}
    some = draw_patches(part, 3, 20, 1)
    assert len(some) == 20
    assert all(known[tuple(v.tolist())] == label for v, label in zip(some.features, some.labels, strict=True))


@pytest.mark.parametrize('run', [run_dense_knn, run_dense_logistic])
def test_patches_segment_what_their_features_show(run):
    data = data_of()
    found = run(data)
    best = label_patches(data.test.labels, 6, 6, 3)
    limit = score_pairs(count_pairs(enlarge(best, 24, 24), data.test.labels, 3))['miou']
    assert limit - 0.12 < found.test['miou'] <= limit + 0.02  # what patches of 4 x 4 pixels allow
    assert run(data) == found
    noise = [Part(torch.randn(part.features.shape), part.labels) for part in (data.train, data.val, data.test)]
    assert run(ProbeData(*noise, 3, data.held_out)).test['miou'] < 0.4


def test_more_neighbors_than_patches_are_refused():
    with pytest.raises(UserError, match=r'2000 neighbors are asked for among 864 patches'):
        run_dense_knn(data_of(), neighbors=[1, 2000])
    found = run_dense_knn(data_of(), neighbors=[7])
    assert found.settings['k'] == 7 and found.settings['patches'] == 30 * 36


def test_masks_of_one_class_are_refused_where_they_are_learned_from():
    part = squares(10, 0)
    part.labels[:] = 1
    with pytest.raises(UserError, match='Segmentation by patches needs two classes'):
        run_dense_logistic(ProbeData(part, part, part, 2, hold_out([0] * 10, 0)))
