"""The benchmark of PatchCore compares the same features; how fast both are depends on the machine."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from anomaly_sets import SMALL, make_image, make_things
from mae_toolkit.apis import fit_anomaly_detector, load_encoder
from mae_toolkit.apis.anomaly_branches import load_reader
from mae_toolkit.apis.embedding import resize_to
from mae_toolkit.benchmarks import anomaly
from mae_toolkit.evaluation.anomaly.layout import list_normal
from tiny import refuse, run_here


@pytest.fixture(scope='module')
def things(tmp_path_factory):
    """A category ``bottle`` and an encoder ``encoder``."""
    return make_things(tmp_path_factory.mktemp('things'))


def needs_anomalib():
    pytest.importorskip('anomalib', reason='anomalib, which needs an environment of its own')


def test_ours_is_the_detector_of_the_toolkit(things):
    paths = list_normal(things / 'bottle')[0].paths
    reader, transform = load_reader(things / 'encoder')
    transform = resize_to(transform, None, whole=True)
    ours = anomaly.Ours(reader.encoder, transform, 0.5, seed=0)
    tested = things / 'bottle' / 'test' / 'cut' / '001.png'
    with torch.no_grad():
        ours.fit([torch.stack([transform(path) for path in paths])])
        score, scores = ours.score(transform(tested)[None])
    settings = SMALL | {'smooth': anomaly.SMOOTH, 'held_out_images': things / 'bottle' / 'test' / 'good'}
    detector = fit_anomaly_detector(things / 'encoder', things / 'bottle', coreset=0.5, reweight=True, **settings)
    (found,) = detector(tested)
    (branch,) = detector.detector.branches
    assert score == pytest.approx(found.scores['max'] * branch.scale + branch.offset, rel=1e-4)
    np.testing.assert_allclose(scores, found.map * branch.scale + branch.offset, rtol=1e-4, atol=1e-4)


def test_each_is_first_in_turn():
    calls = []

    class Noted:
        def __init__(self, name):
            self.name = name

        def prepare(self, imgs):
            return imgs + self.name

        def fit(self, batches):
            calls.append((self.name, 'fit', [float(x) for x in batches]))

        def score(self, img):
            calls.append((self.name, 'score', float(img)))
            return float(img), np.zeros((1, 1))

    images = [torch.tensor(10.0), torch.tensor(20.0)]
    scores, times = anomaly._run_in_turns([Noted(1), Noted(2)], images[:1], images, runs=3)
    assert [one.tolist() for one in scores] == [[11, 21], [12, 22]]
    assert [name for name, what, _ in calls if what == 'fit'] == [1, 2, 2, 1, 1, 2]
    assert calls[0] == (1, 'fit', [11.0]) and calls[1:4] == [(1, 'score', x) for x in (11.0, 11.0, 21.0)]
    assert [len(one) for one in (*times['fit'], *times['score'])] == [3] * 4
    compared = anomaly._compare_times([[3.0, 1.0, 2.0], [4.0, 9.0, 4.0]], 10)
    assert compared == {'ours': 20, 'anomalib': 40, 'ratio': 0.5}


def test_both_score_alike_without_a_coreset(things, tmp_path):
    needs_anomalib()
    bottle, out = things / 'bottle', tmp_path / 'measured.json'
    arguments = things / 'encoder', bottle, bottle, '--coreset', 1, '--runs', 2, '--size', 64, 48, '--batch', 5
    text = run_here('benchmark', 'anomaly', *arguments, '--json', out, plain=True)
    (result,) = json.loads(out.read_text())
    assert result['auroc'] == {'ours': 1, 'anomalib': 1, 'difference': 0}
    assert (result['normal'], result['tested'], result['defective'], result['size']) == (12, 8, 4, [64, 48])
    assert result['patches'] == result['memory'] == 12 * 8 * 6  # the finest level that is read has stride 8
    assert f'{result["fit"]["ours"]:.2f}' in text and f'ratio {result["score"]["ratio"]:.2f}' in text
    assert '12 normal images, 8 test images (4 defective) of 64 x 48 pixels' in text

    encoder, transform = load_encoder(things / 'encoder')
    transform = resize_to(transform, None, whole=True)
    img = transform(make_image(7, defect=(8, 12, 24, 28)))[None]
    both = [kind(encoder, transform, 1.0, 0) for kind in (anomaly.Ours, anomaly.Anomalib)]
    with torch.no_grad():
        for one in both:
            one.fit([one.prepare(torch.stack([transform(make_image(n)) for n in range(3)]))])
        ours, theirs = (one.score(one.prepare(img)) for one in both)
    assert ours[0] == pytest.approx(theirs[0], rel=1e-3) and ours[1].shape == theirs[1].shape


def test_anomalib_fits_alike_for_a_seed_and_leaves_generators_alone(things):
    needs_anomalib()
    encoder, transform = load_encoder(things / 'encoder')
    transform = resize_to(transform, None, whole=True)
    batches = [torch.stack([transform(make_image(n)) for n in range(60)])]  # so many patches are projected
    one = anomaly.Anomalib(encoder, transform, 0.01, seed=0)
    before = np.random.get_state()[1].copy(), torch.get_rng_state()
    banks = []
    for seed in (0, 0, 1):
        one.seed = seed
        with torch.no_grad():
            one.fit(batches)
        banks.append(one.model.memory_bank)
    assert torch.equal(banks[0], banks[1]) and not torch.equal(banks[0], banks[2])
    assert np.array_equal(before[0], np.random.get_state()[1]) and torch.equal(before[1], torch.get_rng_state())


def test_refusals(things, tmp_path, monkeypatch):
    bottle = things / 'bottle'
    if find_spec('anomalib') is None:
        said = refuse('benchmark', 'anomaly', things / 'encoder', bottle, bottle, plain=True)
        assert 'anomalib is not installed: pip install anomalib' in said
    said = refuse('benchmark', 'anomaly', things / 'encoder', bottle, bottle, '--size', 1, 2, 3, plain=True)
    assert '--size 1 2 3: give one number' in said
    assert 'There is no folder' in refuse('benchmark', 'anomaly', 'x', Path('nowhere'), bottle, plain=True)
    monkeypatch.setattr(anomaly, 'require_anomalib', lambda: None)
    (tmp_path / 'test').mkdir()
    (tmp_path / 'test' / 'cut').symlink_to(bottle / 'test' / 'cut')
    said = refuse('benchmark', 'anomaly', things / 'encoder', bottle, tmp_path, plain=True)
    assert 'All 4 test images are defective' in said
