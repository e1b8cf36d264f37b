"""Neighbors, patches, alignments and clusters, compared with scikit-learn and with examples by hand."""

import io

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score, silhouette_score
from sklearn.metrics.pairwise import cosine_similarity

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.retrieval import align, cluster_vectors, compare_patches, find_neighbors, look_at
from mae_toolkit.evaluation.retrieval.alignment import describe
from mae_toolkit.evaluation.retrieval.duplicates import group_pairs
from mae_toolkit.evaluation.retrieval.neighbors import center
from mae_toolkit.visualization.retrieval import Cell, draw_sheet, outline, overlay_heat, to_picture
from tiny import ROOT

TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'
BLOOD = sorted((TINY / 'bccd' / 'images').glob('*.jpg'))


def test_neighbors_are_those_with_the_highest_cosine():
    rng = np.random.default_rng(0)
    gallery, queries = rng.normal(size=(30, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)
    rows, cosines = find_neighbors(gallery, 6, queries)
    expected = cosine_similarity(queries, gallery)
    assert np.array_equal(rows, np.argsort(-expected, axis=1)[:, :6])
    np.testing.assert_allclose(cosines, np.take_along_axis(expected, rows, 1), atol=1e-6)
    rows, _ = find_neighbors(gallery, 30)
    assert rows.shape == (30, 29) and all(row not in rows[row] for row in range(30))
    scaled, _ = find_neighbors(gallery * rng.uniform(0.1, 10, (30, 1)).astype(np.float32), 30)
    assert np.array_equal(scaled, rows)


def test_of_equal_neighbors_the_first_comes_first_and_one_image_has_none():
    gallery = np.array([[1, 0], [0, 1], [1, 0], [1, 0]], np.float32)
    rows, cosines = find_neighbors(gallery, 4, np.array([[2, 0]], np.float32))
    assert rows.tolist() == [[0, 2, 3, 1]] and cosines.tolist() == [[1, 1, 1, 0]]
    assert find_neighbors(gallery[:1], 3)[0].shape == (1, 0)


def test_centered_vectors_have_mean_zero_and_length_one():
    centered = center(np.random.default_rng(0).normal(100, 1, (50, 8)).astype(np.float32))
    np.testing.assert_allclose(np.linalg.norm(centered, axis=1), 1, rtol=1e-5)
    assert np.abs(cosine_similarity(centered).mean()) < 0.1


def test_each_patch_is_compared_with_the_best_of_the_other_image():
    first = torch.tensor([[[1.0, 0.0, -2.0]], [[0.0, 3.0, 0.0]]])  # patches (1, 0), (0, 3), (-2, 0)
    second = torch.tensor([[[2.0], [1.0]], [[0.0], [1.0]]])  # patches (2, 0), (1, 1)
    one, other = compare_patches(first, second)
    half = np.sqrt(0.5)
    np.testing.assert_allclose(one, [[1, half, -half]], atol=1e-6)
    np.testing.assert_allclose(other, [[1], [half]], atol=1e-6)
    same, _ = compare_patches(first, first)
    np.testing.assert_allclose(same, np.ones((1, 3)), atol=1e-6)


def encoded(picture, quality=70):
    """A picture after a trip through JPEG, in gray."""
    buffer = io.BytesIO()
    picture.convert('RGB').save(buffer, 'JPEG', quality=quality)
    return np.asarray(Image.open(buffer)).mean(2)


def test_a_crop_is_found_where_it_was_cut_out():
    picture = Image.open(BLOOD[0])
    whole, (width, height) = look_at(BLOOD[0]), picture.size
    box = (round(width * 0.2), round(height * 0.3), round(width * 0.9), round(height * 0.95))
    found = align(whole, describe(encoded(picture.crop(box).resize((200, 120)), 50)))
    assert found is None  # stretched by a quarter: no rotation, scale and shift makes the one of the other
    crop = picture.crop(box)
    found = align(
        whole, describe(encoded(crop.resize((crop.width * 2, crop.height * 2), Image.Resampling.BICUBIC), 50))
    )
    x, y = [box[0] / width, box[2] / width], [box[1] / height, box[3] / height]
    expected = [[x[0], y[0]], [x[1], y[0]], [x[1], y[1]], [x[0], y[1]]]
    np.testing.assert_allclose(found.corners, expected, atol=0.02)
    assert found.correlation > 0.95 and found.share > 0.97 and not found.is_whole
    inverse = found.inverse()
    np.testing.assert_allclose(inverse[0], [-x[0] / (x[1] - x[0]), -y[0] / (y[1] - y[0])], atol=0.05)


def test_the_same_image_turned_or_smaller_is_the_whole():
    picture = Image.open(BLOOD[0])
    whole = look_at(BLOOD[0])
    for other in (picture, picture.resize((150, 112)), picture.rotate(180), picture.point(lambda x: x // 2 + 60)):
        found = align(whole, describe(encoded(other)))
        assert found is not None and found.is_whole and found.share > 0.95
    turned = align(whole, describe(encoded(picture.rotate(90, expand=True))))
    assert turned is not None and turned.share > 0.95


def test_other_images_are_not_aligned():
    rng = np.random.default_rng(0)
    looks = [look_at(path) for path in BLOOD[:12]]
    assert not any(align(looks[a], looks[b]) for a in range(12) for b in range(a))
    for image in (np.zeros((50, 50)), rng.integers(0, 256, (50, 50)), np.full((1, 300), 7.0)):
        assert align(looks[0], describe(image)) is None and align(describe(image), looks[0]) is None
    noise = [describe(cv2.GaussianBlur(rng.random((128, 128)), (0, 0), 2)) for _ in range(6)]
    assert not any(align(noise[a], noise[b]) for a in range(6) for b in range(a))


def test_points_that_agree_are_not_enough():
    """Half of another image is pasted over a copy: the points of the rest agree on a place, and the pixels do not."""
    picture, other = Image.open(BLOOD[0]), Image.open(BLOOD[1])
    whole, mixed = look_at(BLOOD[0]), picture.copy()
    assert align(whole, describe(encoded(mixed, 90))) is not None
    mixed.paste(other.crop((0, 0, other.width * 6 // 10, other.height)), (0, 0))
    assert align(whole, describe(encoded(mixed, 90))) is None


def test_pairs_that_are_connected_are_one_group():
    assert group_pairs([(0, 1), (2, 3), (5, 1), (3, 4)]) == [1, 2, 1, 2]
    assert group_pairs([]) == []


def make_blobs(counts=(40, 25, 10), channels=6):
    rng = np.random.default_rng(1)
    centers = rng.normal(size=(len(counts), channels))
    rows = [center + 0.1 * rng.normal(size=(n, channels)) for center, n in zip(centers, counts, strict=True)]
    order = rng.permutation(sum(counts))
    return np.concatenate(rows).astype(np.float32)[order], np.repeat(np.arange(len(counts)), counts)[order]


def test_clusters_are_those_of_scikit_learn_on_vectors_of_length_one():
    vectors, truth = make_blobs()
    scales = np.random.default_rng(2).uniform(0.1, 10, (len(vectors), 1)).astype(np.float32)
    made = cluster_vectors(vectors * scales, 3)
    normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    fitted = KMeans(3, n_init=10, random_state=0).fit(normal)
    assert adjusted_rand_score(fitted.labels_, made.labels) == 1 and adjusted_rand_score(truth, made.labels) == 1
    assert np.bincount(made.labels).tolist() == [40, 25, 10]  # the largest first
    assert made.silhouette == pytest.approx(silhouette_score(normal, fitted.labels_), abs=1e-5)
    for seed in range(4):  # whatever numbers k-means gives them
        assert np.bincount(cluster_vectors(vectors, 3, seed).labels).tolist() == [40, 25, 10]
    middle = normal[made.labels == 0].mean(0)
    expected = normal[made.labels == 0] @ middle / np.linalg.norm(middle)
    np.testing.assert_allclose(made.cosines[made.labels == 0], expected, atol=1e-5)
    first = made.members(0)
    assert len(first) == 40 and made.cosines[first[0]] == made.cosines[made.labels == 0].max()


def test_the_number_with_the_highest_silhouette_is_chosen():
    vectors, truth = make_blobs((20, 20, 20, 20))
    made = cluster_vectors(vectors)
    assert made.count == 4 and adjusted_rand_score(truth, made.labels) == 1
    assert list(made.tried) == list(range(2, 21)) and max(made.tried, key=made.tried.get) == 4
    normal = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    assert made.tried[4] == pytest.approx(silhouette_score(normal, truth), abs=1e-5)
    again = cluster_vectors(vectors)
    assert np.array_equal(again.labels, made.labels) and again.tried == made.tried


def test_few_and_equal_vectors():
    vectors, _ = make_blobs((1, 1, 1))
    assert cluster_vectors(vectors).count == 2 and list(cluster_vectors(vectors).tried) == [2]
    assert cluster_vectors(vectors, 3).labels.tolist() == [0, 1, 2] or cluster_vectors(vectors, 3).count == 3
    assert cluster_vectors(vectors, 1).labels.tolist() == [0, 0, 0]
    with pytest.raises(UserError, match='3 images with 3 different vectors cannot make 4 clusters: ask for fewer'):
        cluster_vectors(vectors, 4)
    with pytest.raises(UserError, match='5 images with 1 different vector cannot make clusters: at least 3'):
        cluster_vectors(np.ones((5, 4), np.float32))


def test_pictures_of_any_image():
    rng = np.random.default_rng(0)
    color = rng.integers(0, 256, (10, 12, 3), np.uint8)
    assert np.array_equal(to_picture(color), color)
    assert np.array_equal(to_picture(color[..., :1]), np.repeat(color[..., :1], 3, 2))
    assert np.array_equal(to_picture(np.dstack([color, color])), color)
    deep = to_picture(color.astype(np.uint16) * 100)
    assert deep.dtype == np.uint8 and deep.shape == (10, 12, 3) and np.ptp(deep) == 255


def test_heat_and_outlines_are_where_they_belong():
    gray = np.full((40, 40, 3), 128, np.uint8)
    heat = overlay_heat(gray, np.array([[0.0, 1.0]]), 0, 1)
    left, right = heat[:, :20].reshape(-1, 3), heat[:, 20:].reshape(-1, 3)
    assert len(np.unique(left, axis=0)) == len(np.unique(right, axis=0)) == 1
    assert left[0, 2] > left[0, 1] and right[0, 0] > right[0, 2]  # from blue to yellow
    drawn = outline(gray, np.array([[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]))
    assert (drawn[10, 10:31] != 128).any(1).all() and (drawn[20, 20] == 128).all() and (gray == 128).all()


def test_a_sheet_has_a_row_for_each_row():
    cell = Cell(np.zeros((20, 10, 3), np.uint8), ['a name that is far too long for a cell of these few pixels', 'b'])
    one, two = draw_sheet([[cell, cell]], 'title', 64), draw_sheet([[cell, cell], [cell]], 'title', 64)
    assert one.width == two.width == 6 + 2 * 70 and two.height > one.height
    dark = (np.asarray(two).sum(2) == 0).sum()
    assert dark > 3 * 64 * 32  # each picture is enlarged to 32 x 64 pixels
