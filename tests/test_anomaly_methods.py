"""Methods of anomaly detection, each against its definition."""

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.metrics.pairwise import cosine_distances

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly import coreset, neighbors
from mae_toolkit.evaluation.anomaly.coreset import choose_coreset, project
from mae_toolkit.evaluation.anomaly.methods import METHODS, build_method
from mae_toolkit.evaluation.anomaly.methods.padim import PaDiM
from mae_toolkit.evaluation.anomaly.methods.patchcore import PatchCore
from mae_toolkit.evaluation.anomaly.methods.reconstruction import PRIOR, Reconstruction
from mae_toolkit.evaluation.anomaly.neighbors import find_neighbors


def maps(count=6, channels=7, size=(3, 4), seed=0):
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(seed))


def rows_of(x):
    return x.permute(0, 2, 3, 1).reshape(-1, x.shape[1]).numpy()


def fitted(name, x, **settings):
    method = build_method(name, settings)
    for part in x.split(4):
        method.add(part)
    method.finish(show_progress=False)
    return method


@pytest.mark.parametrize('count', [1, 3])
def test_neighbors_are_those_of_scipy(monkeypatch, count):
    monkeypatch.setattr(neighbors, 'PRODUCTS', 100)  # in several pieces
    rng = np.random.default_rng(0)
    queries, bank = rng.normal(100, 1, (40, 5)).astype(np.float32), rng.normal(100, 1, (30, 5)).astype(np.float32)
    queries[7] = bank[3]
    expected = np.sort(cdist(queries.astype(float), bank.astype(float)), axis=1)[:, :count]
    distances, indices = find_neighbors(torch.tensor(queries), torch.tensor(bank), count)
    np.testing.assert_allclose(distances, expected, atol=2e-3)  # far from zero, products have lost digits
    exact = np.linalg.norm(queries[:, None].astype(float) - bank[indices], axis=2)
    np.testing.assert_allclose(distances, exact, rtol=1e-4)
    assert distances[7, 0] == 0 and indices[7, 0] == 3


def greedy(points, count, first):
    """The definition, with all distances."""
    chosen = [first]
    while len(chosen) < count:
        nearest = cdist(points, points[chosen]).min(1)
        chosen.append(int(nearest.argmax()))
    return chosen


def test_the_coreset_is_greedy(monkeypatch):
    x = torch.randn(200, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([9.0, 5, 1, 1, 1, 1])
    for seed in range(3):
        found = choose_coreset(x, 40, seed, show_progress=False).tolist()
        assert found == greedy(x.double().numpy(), 40, found[0])
    monkeypatch.setattr(coreset, 'johnson_lindenstrauss_min_dim', lambda *args, **kwargs: 4)
    projected = project(x, 1)
    assert projected.shape == (200, 4) and torch.equal(projected, project(x, 1))
    found = choose_coreset(x, 40, 1, show_progress=False).tolist()
    assert found == greedy(projected.double().numpy(), 40, found[0])


def test_copies_are_kept_once():
    x = torch.arange(4.0)[:, None].repeat(5, 3)
    assert sorted(x[choose_coreset(x, 10, show_progress=False), 0].tolist()) == [0, 1, 2, 3]
    assert len(choose_coreset(x, 20)) == 20


@pytest.mark.parametrize('count', [1, 4])
def test_patchcore_is_the_distance_to_the_memory(count):
    x, other = maps(), maps(2, seed=1)
    method = fitted('patchcore', x, coreset=1.0, neighbors=count)
    expected = np.sort(cdist(rows_of(other), rows_of(x)), axis=1)[:, :count].mean(1)
    np.testing.assert_allclose(method.score(other).flatten(), expected, rtol=1e-4)
    assert method.weigh(other, method.score(other)) is None
    assert len(fitted('patchcore', x, coreset=0.25).bank) == 18
    with pytest.raises(UserError, match='100 neighbors are asked for, and the memory holds 72'):
        fitted('patchcore', x, coreset=1.0, neighbors=100)
    for wrong in ({'coreset': 0}, {'coreset': 1.5}, {'neighbors': 0}):
        with pytest.raises(UserError, match=f'{next(iter(wrong))}='):
            PatchCore(**wrong)


def test_patchcore_weighs_by_the_neighborhood_in_the_memory():
    x, other = maps(), maps(2, seed=1)
    method = fitted('patchcore', x, coreset=1.0, reweight=True)
    weights = method.weigh(other, method.score(other))
    bank = rows_of(x).astype(float)
    for number, patches in enumerate(np.split(rows_of(other).astype(float), 2)):
        distances = cdist(patches, bank)
        worst = distances.min(1).argmax()
        nearest = distances[worst].argmin()
        support = np.argsort(cdist(bank[nearest : nearest + 1], bank)[0])[:9]
        total = np.exp(distances[worst][support]).sum()
        assert float(weights[number]) == pytest.approx(1 - np.exp(distances[worst][nearest]) / total, rel=1e-4)


def test_patchcore_scores_as_anomalib():
    torch_model = pytest.importorskip(
        'anomalib.models.image.patchcore.torch_model', reason='anomalib, which needs an environment of its own'
    )
    x, other = maps(), maps(2, seed=1)
    method = fitted('patchcore', x, coreset=1.0, reweight=True)
    theirs = torch_model.PatchcoreModel.__new__(torch_model.PatchcoreModel)
    torch.nn.Module.__init__(theirs)
    theirs.num_neighbors, theirs.memory_bank = 9, method.bank
    rows = torch.tensor(rows_of(other))
    scores, locations = theirs.nearest_neighbors(rows, n_neighbors=1)
    scores, locations = scores.view(2, -1), locations.view(2, -1)
    ours = method.score(other)
    torch.testing.assert_close(ours.flatten(1), scores, rtol=1e-4, atol=1e-4)
    expected = theirs.compute_anomaly_score(scores, locations, rows)
    torch.testing.assert_close(ours.flatten(1).amax(1) * method.weigh(other, ours), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(('dimensions', 'reduction'), [(100, 'select'), (3, 'select'), (3, 'project')])
def test_padim_is_the_mahalanobis_distance_at_each_position(dimensions, reduction):
    x, other = maps(20), maps(2, seed=1)
    method = fitted('padim', x + 50, dimensions=dimensions, reduction=reduction)
    matrix = method.matrix.double().numpy()
    assert matrix.shape == (7, min(7, dimensions))
    np.testing.assert_allclose(matrix.T @ matrix, np.eye(matrix.shape[1]), atol=1e-5)
    found = method.score(other + 50)
    for row, column in ((0, 0), (2, 3)):
        normal = (x[:, :, row, column].double().numpy() + 50) @ matrix
        inverse = np.linalg.inv(np.cov(normal.T) + 0.01 * np.eye(normal.shape[1]))
        for image in range(2):
            vector = (other[image, :, row, column].double().numpy() + 50) @ matrix
            expected = mahalanobis(vector, normal.mean(0), inverse)
            assert float(found[image, row, column]) == pytest.approx(expected, rel=1e-3)
    for wrong in ({'dimensions': 0}, {'reduction': 'drop'}, {'regularization': 0.0}):
        with pytest.raises(UserError, match=f'{next(iter(wrong))}='):
            PaDiM(**wrong)


def test_anomalydino_is_the_cosine_distance_to_the_nearest():
    x, other = maps(), maps(2, seed=1)
    expected = cosine_distances(rows_of(other), rows_of(x)).min(1)
    np.testing.assert_allclose(fitted('anomalydino', x).score(other).flatten(), expected, atol=1e-5)


def test_reconstruction_is_in_deviations_of_normal_errors():
    errors, other = maps(10, 1).abs(), maps(2, 1, seed=1).abs()
    values = errors[:, 0].double().numpy()
    variance = values.var(0, ddof=1)
    steadied = (10 * variance + PRIOR * variance.mean()) / (10 + PRIOR)
    expected = (other[:, 0].numpy() - values.mean(0)) / np.sqrt(steadied)
    np.testing.assert_allclose(fitted('reconstruction', errors).score(other), expected, rtol=1e-4, atol=1e-5)
    anywhere = fitted('reconstruction', errors, per_position=False).score(other)
    expected = (other[:, 0].numpy() - values.mean()) / values.std(ddof=1)
    np.testing.assert_allclose(anywhere, expected, rtol=1e-4, atol=1e-5)
    assert Reconstruction(seed=3).per_position


@pytest.mark.parametrize('name', METHODS)
def test_batches_make_no_difference_and_a_state_is_whole(name):
    channels = 1 if METHODS[name].reads == 'errors' else 7
    x, other = maps(8, channels), maps(3, channels, seed=1)
    method, whole = fitted(name, x), build_method(name, {})
    whole.add(x)
    whole.finish(show_progress=False)
    scores = method.score(other)
    assert scores.shape == (3, 3, 4)
    torch.testing.assert_close(scores, whole.score(other), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(scores[1:], method.score(other[1:]), rtol=1e-5, atol=1e-6)
    restored = build_method(name, {})
    restored.restore(method.state())
    assert torch.equal(restored.score(other), scores)
    # What is normal is less unusual than the same with something added.
    assert method.score(x).mean() < method.score(x + 3 * torch.randn_like(x).abs()).mean()
    with pytest.raises(UserError, match=f'no method .{name}x.*{name}'):
        build_method(f'{name}x', {})
