"""Probes of vectors and of maps, against scikit-learn, other implementations and examples by hand."""

import itertools
import math

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import average_precision_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize
from torch import nn

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.knn import compute_knn_accuracy
from mae_toolkit.evaluation.probes.attentive import EfficientProbe, run_attentive
from mae_toolkit.evaluation.probes.clustering import compute_cluster_accuracy, run_kmeans
from mae_toolkit.evaluation.probes.data import Part, ProbeData, hold_out
from mae_toolkit.evaluation.probes.knn import run_knn, vote
from mae_toolkit.evaluation.probes.linear import make_optimizer, run_linear
from mae_toolkit.evaluation.probes.logistic import compute_loss, fit_logistic, run_logistic
from mae_toolkit.evaluation.probes.neighbors import find_nearest
from mae_toolkit.evaluation.probes.rank import run_rank
from mae_toolkit.evaluation.probes.retrieval import compute_retrieval, run_retrieval
from mae_toolkit.evaluation.probes.splits import make_three_splits
from mae_toolkit.evaluation.probes.table import compute_margin
from mae_toolkit.evaluation.probes.training import Standardize


def digits(train=240, val=60, test=100):
    """Small pictures of digits as vectors, in three parts."""
    pixels, labels = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(labels))  # neighbors in the list are of one writer
    noise = np.random.default_rng(1).normal(scale=4, size=pixels.shape)
    vectors, labels = torch.tensor((pixels + noise)[order]).float(), torch.tensor(labels[order])
    ends = np.cumsum([0, train, val, test])
    parts = [Part(vectors[a:b], labels[a:b]) for a, b in itertools.pairwise(ends)]
    return ProbeData(*parts, 10, hold_out(parts[0].labels.tolist(), 0))


def marked_maps(count, seed):
    """Noisy maps of three classes; the class is a mark of one position, anywhere, so that the mean hardly shows it."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    maps = torch.randn(count, 8, 4, 4, generator=generator)
    places = torch.randint(16, (count,), generator=generator)
    for row, (label, place) in enumerate(zip(labels, places, strict=True)):
        maps[row, label, place // 4, place % 4] += 6
    return Part(maps, labels)


def map_data(count=180):
    parts = [marked_maps(number, seed) for seed, number in enumerate((count, 60, 90))]
    return ProbeData(*parts, 3, hold_out(parts[0].labels.tolist(), 0))


@pytest.mark.parametrize('use_faiss', [False, True])
def test_the_nearest_are_those_of_scikit_learn(use_faiss):
    if use_faiss:
        pytest.importorskip('faiss')
    data = digits()
    cosines, rows = find_nearest(data.test.features, data.train.features, 6, use_faiss)
    expected = normalize(data.test.features.double()) @ normalize(data.train.features.double()).T
    best = -np.sort(-expected, axis=1)[:, :6]
    assert np.allclose(cosines, best, atol=1e-6) and np.allclose(np.take_along_axis(expected, rows.numpy(), 1), best)
    twice = torch.eye(3).repeat(2, 1)
    assert find_nearest(torch.eye(3), twice, 2, use_faiss)[1].tolist() == [[0, 3], [1, 4], [2, 5]]


def test_faiss_is_used_where_it_is_installed(monkeypatch):
    from mae_toolkit.evaluation.probes import neighbors

    used = []
    monkeypatch.setattr(neighbors, 'find_spec', lambda name: name == 'faiss' or None)
    monkeypatch.setattr(neighbors, '_search_faiss', lambda *given: used.append(1) or neighbors._search_torch(*given))
    find_nearest(torch.eye(3), torch.eye(3), 2)
    assert used


def test_knn_votes_as_the_reference_and_chooses_on_held_out_training_images():
    data = digits()
    for k, temperature in ((1, 0.07), (10, 0.2)):
        cosines, rows = find_nearest(data.test.features, data.train.features, k)
        found = vote(cosines, data.train.labels[rows], 10, k, temperature)
        model = KNeighborsClassifier(
            k, weights=lambda d, t=temperature: np.exp((1 - d) / t), metric='cosine', algorithm='brute'
        ).fit(data.train.features.double(), data.train.labels)
        expected = model.score(data.test.features.double(), data.test.labels)
        assert (found == data.test.labels).double().mean() == pytest.approx(expected, abs=1e-9)
        accuracy = compute_knn_accuracy(
            data.train.features, data.train.labels, data.test.features, data.test.labels, k, temperature
        )
        assert accuracy == pytest.approx(expected, abs=1e-9)
    found = run_knn(data, neighbors=(1, 10, 150), temperatures=(0.1,))
    tried = {
        k: compute_knn_accuracy(
            data.fit.features, data.fit.labels, data.choose.features, data.choose.labels, k, temperature=0.1
        )
        for k in (1, 10, 150)
    }
    assert found.settings['k'] == max(tried, key=tried.get) != 1
    assert found.settings['held-out accuracy'] == pytest.approx(max(tried.values()))
    assert found.test['accuracy'] == pytest.approx(
        compute_knn_accuracy(
            data.train.features,
            data.train.labels,
            data.test.features,
            data.test.labels,
            found.settings['k'],
            temperature=0.1,
        )
    )


def test_votes_without_a_temperature_are_those_of_scikit_learn():
    data = digits()
    model = KNeighborsClassifier(5, metric='cosine').fit(data.train.features, data.train.labels)
    cosines, rows = find_nearest(data.test.features, data.train.features, 5)
    found = vote(cosines, data.train.labels[rows], 10, 5, math.inf)
    assert np.array_equal(found, model.predict(data.test.features))


def test_more_neighbors_than_images_are_refused():
    data = digits(train=40)
    with pytest.raises(UserError, match=r'200 neighbors are asked for, and 3\d training images'):
        run_knn(data, neighbors=(5, 200))
    assert run_knn(data).settings['k'] <= 40
    with pytest.raises(UserError, match='5 neighbors are asked for, and there are 3 images'):
        find_nearest(torch.eye(3), torch.eye(3), 5)


def test_logistic_regression_is_that_of_scikit_learn():
    data = digits()
    found = run_logistic(data, strengths=(1e-6, 0.05))
    assert found.settings['C'] == 0.05  # the other hardly learns
    scaler = StandardScaler().fit(data.train.features.double())
    model = LogisticRegression(C=0.05, max_iter=1000)
    model.fit(scaler.transform(data.train.features.double()), data.train.labels)
    for part, scores in ((data.val, found.val), (data.test, found.test)):
        expected = model.score(scaler.transform(part.features.double()), part.labels)
        assert scores['accuracy'] == pytest.approx(expected)


@pytest.mark.filterwarnings('error::RuntimeWarning')
def test_a_class_without_a_chance_is_an_infinite_loss_and_no_warning():
    labels = torch.arange(40) % 2
    vectors = labels[:, None] * 2.0 - 1 + 0.01 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
    model, _ = fit_logistic(Part(vectors, labels), 1e5)
    assert compute_loss(model, Part(1000 * vectors, labels)) < 1e-6
    assert compute_loss(model, Part(1000 * vectors, 1 - labels)) == math.inf


@pytest.mark.parametrize('optimizer', ['lars', 'sgd'])
def test_a_linear_probe_comes_near_logistic_regression(optimizer):
    data = digits()
    expected = run_logistic(data).test['accuracy']
    state = torch.random.get_rng_state()
    found = run_linear(data, optimizer, epochs=30)
    assert abs(found.test['accuracy'] - expected) < 0.06
    assert torch.equal(torch.random.get_rng_state(), state)
    torch.manual_seed(5)  # it has a seed of its own
    assert run_linear(data, optimizer, epochs=30) == found


def test_steps_of_lars_are_scaled_for_weights_alone():
    layer = nn.Linear(3, 2)
    before = [p.detach().clone() for p in layer.parameters()]
    for p in layer.parameters():
        p.grad = torch.ones_like(p)
    make_optimizer(layer, 2.0, 'lars').step()
    weight, bias = (old - new.detach() for old, new in zip(before, layer.parameters(), strict=True))
    torch.testing.assert_close(weight, torch.full((2, 3), 2.0 * 0.001) * before[0].norm() / 6**0.5)
    torch.testing.assert_close(bias, torch.full((2,), 2.0))


@pytest.mark.parametrize('shape', [(), (3, 2)])
def test_channels_are_standardized_as_by_scikit_learn(shape):
    x = torch.randn(50, 4, *shape) * torch.tensor([1.0, 100, 0.01, 0]).view(4, *[1 for _ in shape]) + 1e3
    rows = x.movedim(1, -1).reshape(-1, 4)
    expected = StandardScaler().fit_transform(rows.double())
    found = Standardize(x)(x).movedim(1, -1).reshape(-1, 4)
    assert np.allclose(found[:, [0, 1, 3]], expected[:, [0, 1, 3]], atol=1e-3)
    assert found.isfinite().all()


def test_the_efficient_probe_is_the_published_one():
    """Queries attend to positions without projections, and each averages its share of the projected channels."""
    torch.manual_seed(0)
    maps = torch.randn(5, 12, 3, 2)
    probe = EfficientProbe(maps, 4, queries=8).double()
    assert probe.queries.shape == (6, 12)  # the most by which 12 channels are divisible
    probe.queries.data *= 50  # attention that is not even
    tokens = probe.standardize(maps).double().flatten(2).mT  # (B, N, C)
    scores = tokens @ probe.queries.T / 12**0.5  # (B, N, M)
    values = (tokens @ probe.value.T).view(5, 6, 6, 2)  # (B, N, M, C / M)
    expected = (scores.softmax(1)[..., None] * values).sum(1).flatten(1)
    torch.testing.assert_close(probe.pool(maps), expected)
    probe.train()
    assert probe(maps).shape == (5, 4)


def test_attention_finds_what_the_mean_hides():
    data = map_data()
    pooled = [Part(part.features.mean((2, 3)), part.labels) for part in (data.train, data.val, data.test)]
    vectors = ProbeData(*pooled, 3, data.held_out)
    found = run_attentive(data, queries=4, epochs=20)
    assert found.test['accuracy'] > run_linear(vectors, epochs=20).test['accuracy'] + 0.1
    assert run_attentive(data, 4, 1) == run_attentive(data, 4, 1)


def test_one_class_is_refused():
    part = Part(torch.randn(20, 4), torch.zeros(20, dtype=torch.long))
    data = ProbeData(part, part, part, 2, hold_out([0] * 20, 0))
    for run in (run_logistic, run_linear):
        with pytest.raises(UserError, match='needs two classes or more, and there is 1 among the 1[0-9]'):
            run(data)


def test_clusters_are_matched_in_the_best_way():
    labels = np.array([0, 0, 0, 1, 1, 2, 2, 2])
    clusters = np.array([1, 1, 0, 0, 0, 2, 2, 1])
    # 1 for class 0 (2 right), 0 for class 1 (2 right), 2 for class 2 (2 right)
    assert compute_cluster_accuracy(labels, clusters) == 6 / 8
    assert compute_cluster_accuracy(labels, 2 - labels) == 1
    assert compute_cluster_accuracy(labels, np.arange(8)) == 3 / 8  # one image of each class
    directions = torch.eye(5)[torch.arange(60) % 3] * torch.logspace(0, 3, 60)[:, None]
    part = Part(directions, torch.arange(60) % 3)
    found = run_kmeans(ProbeData(part, part, part, 3, hold_out([0] * 60, 0)))
    assert found.test == {'nmi': pytest.approx(1), 'ari': pytest.approx(1), 'accuracy': 1}


def test_retrieval_is_that_of_scikit_learn():
    data = digits()
    found = compute_retrieval(data.test, data.train)
    cosines = normalize(data.test.features) @ normalize(data.train.features).T
    relevant = data.test.labels[:, None] == data.train.labels
    expected = np.mean([average_precision_score(r, c) for r, c in zip(relevant, cosines, strict=True)])
    assert found['map'] == pytest.approx(expected, abs=1e-5)  # equal cosines
    assert found['recall_at_1'] == pytest.approx(
        compute_knn_accuracy(data.train.features, data.train.labels, data.test.features, data.test.labels, 1)
    )
    assert run_retrieval(data).test == found


def test_retrieval_by_hand():
    """Angles in the plane; classes a and b, and one c that has no other of its class."""
    degrees, labels = [0, 10, 25, 27, 60], [0, 1, 0, 0, 2]
    angles = torch.tensor(degrees).deg2rad()
    part = Part(torch.stack([angles.cos(), angles.sin()], 1), torch.tensor(labels))
    found = compute_retrieval(part, recalls=(1, 2))
    # Orders without the query: of 0: b a a c; of 25: a b a c; of 27: a b a c. The b and the c are no queries.
    assert found['map'] == pytest.approx(((1 / 2 + 2 / 3) / 2 + 2 * (1 + 2 / 3) / 2) / 3)
    assert found['map_at_r'] == pytest.approx(((1 / 2) / 2 + 2 * 1 / 2) / 3)
    assert found['r_precision'] == pytest.approx((1 / 2 + 2 * 1 / 2) / 3)
    assert found['recall_at_1'] == pytest.approx(2 / 3) and found['recall_at_2'] == 1
    with pytest.raises(UserError, match='None of 2 images has another of its class'):
        compute_retrieval(part.select(torch.tensor([0, 1])))


def test_ranks_of_images_and_positions():
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(16, 16, generator=generator)).Q[:3]
    vectors = torch.randn(500, 3, generator=generator) @ basis
    maps = vectors.view(50, 10, 16).mT.reshape(50, 16, 5, 2)
    for features in (vectors, maps):
        part = Part(features, torch.zeros(len(features)))
        found = run_rank(ProbeData(part, part, part, 1, torch.zeros(len(features), dtype=torch.bool)), rows=300)
        assert found.test['rank'] == pytest.approx(3, abs=0.1)
        assert found.settings == {'rows': 300, 'channels': 16}


def test_validation_is_never_the_test():
    items = [(i, i % 3) for i in range(60)]

    def strata(pairs):
        return [label for _, label in pairs]

    whole = {'train': items[:30], 'val': items[30:40], 'test': items[40:]}
    assert make_three_splits(whole, strata, 0) == (whole, 'the splits are those of the set')
    for name in ('val', 'test'):
        found, note = make_three_splits({'train': items[:40], name: items[40:]}, strata, 0)
        assert found['test'] == items[40:] and f'the split {name}' in note and 'seed 0' in note
        assert sorted(found['train'] + found['val']) == items[:40] and len(found['val']) == 6
    found, note = make_three_splits({'all': items}, strata, 0)
    assert sorted(found['train'] + found['val'] + found['test']) == items and 'no splits' in note
    assert [len(found[name]) for name in ('train', 'val', 'test')] == [42, 9, 9]
    assert {label for _, label in found['test']} == {0, 1, 2}
    assert make_three_splits({'all': items}, strata, 1)[0] != found


def test_the_margin_is_half_the_interval_of_wilson():
    assert compute_margin(0.5, 100) == pytest.approx(0.0962, abs=1e-3)  # 40.38 to 59.62 of 100
    assert 0 < compute_margin(1.0, 310) < 0.01
