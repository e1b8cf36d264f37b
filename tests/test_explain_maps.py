"""Sweeps of reconstructions, features in colors and maps of embeddings, against independent computations."""

import json
import sys
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_sets import make_image, write_autoencoder, write_encoder
from mae_toolkit.apis import (
    Reconstructor,
    embed,
    explain_components,
    explain_map,
    explain_reconstruction,
    load_feature_extractor,
    load_reconstructor,
)
from mae_toolkit.apis.explain import read_components
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.explanation.components import FeatureComponents, fit_components
from mae_toolkit.evaluation.explanation.embedding_map import (
    map_vectors,
    measure_label_accuracy,
    measure_map_accuracy,
    spread_points,
)
from mae_toolkit.evaluation.explanation.mask_sweep import build_masking, is_nested, name_masking
from mae_toolkit.visualization.explanation.embedding_map import draw_embedding_map


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    """The run of a small masked autoencoder: cells of 8 pixels."""
    return write_autoencoder(tmp_path_factory.mktemp('runs') / 'photos')


@pytest.fixture(scope='module')
def model(run):
    return load_reconstructor(run, device='cpu').model


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    """Class folders of four images each, which are not square and differ in their noise and stripes."""
    folder = tmp_path_factory.mktemp('photos')
    for number, name in enumerate(('plain', 'marked')):
        (folder / name).mkdir()
        for seed in range(4):
            image = make_image(seed, (48, 64), (20, 8, 52, 40) if number else None)
            Image.fromarray(image).save(folder / name / f'{seed}.png')
    return folder


def colors_by_hand(fitted, others):
    """The colors of maps by a singular value decomposition of all positions of those that they are fitted on."""
    rows = np.concatenate([x.numpy().reshape(len(x), -1).T for x in fitted]).astype(np.float64)
    mean = rows.mean(0)
    _, values, directions = np.linalg.svd(rows - mean, full_matrices=False)
    directions = directions[:3].T
    directions = directions * np.sign(directions[np.abs(directions).argmax(0), range(3)])
    low, high = np.quantile((rows - mean) @ directions, (0.01, 0.99), axis=0)
    for x in others:
        scores = ((x.numpy().reshape(len(x), -1).T.astype(np.float64) - mean) @ directions - low) / (high - low)
        yield (scores.clip(0, 1) * 255).round().reshape(*x.shape[1:], 3), values[:3] ** 2 / (values**2).sum()


def test_components_are_those_of_a_decomposition_and_color_other_maps():
    torch.manual_seed(0)
    scales = torch.tensor([9.0, 5, 3, 1, 0.5]).view(-1, 1, 1)
    fitted, others = [torch.randn(5, 6, 7) * scales, torch.randn(5, 3, 4) * scales + 1], [torch.randn(5, 2, 9) * scales]
    made = fit_components(fitted)
    for (expected, shares), picture in zip(colors_by_hand(fitted, others), made.color(others), strict=True):
        assert picture.shape == (2, 9, 3) and np.abs(picture.astype(float) - expected).max() <= 1
        np.testing.assert_allclose(made.explained, shares, atol=1e-9)
    again = FeatureComponents.from_dict(json.loads(json.dumps(made.to_dict())))
    assert np.array_equal(again.color(others)[0], made.color(others)[0])
    with pytest.raises(UserError, match='4 channels, and the components were fitted on 5'):
        made.color([torch.zeros(4, 2, 2)])


def test_the_foreground_is_what_the_first_component_separates():
    torch.manual_seed(0)
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 3:7] = True
    maps = [torch.randn(6, 8, 8) * 0.1 + 4 * inside * torch.arange(6).view(-1, 1, 1) for _ in range(3)]
    for side in ('auto', 'above'):  # the largest weight of the first component is positive, and so is the object
        made = fit_components(maps, side)
        assert made.foreground.share == pytest.approx(16 / 64)
        for picture in made.color(maps):
            assert (picture[~inside.numpy()] == 0).all() and picture[inside.numpy()].any(1).mean() > 0.8
        again = FeatureComponents.from_dict(json.loads(json.dumps(made.to_dict())))
        assert np.array_equal(again.color(maps)[0], made.color(maps)[0])
    assert fit_components(maps, 'below').foreground.share == pytest.approx(48 / 64)
    with pytest.raises(UserError, match="foreground='left' must be one of above, below, auto"):
        fit_components(maps, 'left')
    with pytest.raises(UserError, match='1 position of 4 are foreground'):
        fit_components([torch.tensor([[[0.0, 0.0], [0.0, 9.0]]]).expand(3, 2, 2)], 'above')


def test_saved_colors_are_applied_to_other_images(run, photos, tmp_path):
    extractor = load_feature_extractor(run, device='cpu')
    found = explain_components(extractor, photos / 'plain', foreground='auto')
    assert found.numbers['images'] == 4 and found.numbers['levels'][0]['stride'] == 8
    assert 'foreground' in found.caption and min(found.picture.size) > 200
    found.write(tmp_path / 'colors.png')
    again = explain_components(run, photos / 'marked', components=tmp_path / 'colors.json', device='cpu')
    fitted = read_components(tmp_path / 'colors.json')[1]
    batch = next(extractor.encode(photos / 'marked'))
    expected = fit_components([x for one in extractor.encode(photos / 'plain') for x in one.features.maps[0]], 'auto')
    maps = list(batch.features.maps[0])
    assert np.array_equal(fitted.color(maps), expected.color(maps))
    assert again.numbers['components'] == json.loads((tmp_path / 'colors.json').read_text())['numbers']['components']
    other = explain_components(extractor, photos / 'marked', fit_on=photos / 'plain', foreground='auto')
    assert np.array_equal(np.asarray(other.picture), np.asarray(again.picture))
    torch.manual_seed(1)
    stranger = load_feature_extractor(write_encoder(tmp_path / 'stranger', 'Hiera'), device='cpu')
    for options, sentence in (
        (dict(components=found.numbers), 'encoder of the hash'),
        (dict(components=tmp_path / 'nothing.json'), 'There is no file'),
        (dict(components={'a': 1}), 'no components are in it'),
        (dict(components=found.numbers, fit_on=photos), 'leave fit_on and foreground out'),
        (dict(levels=[9]), 'There is no level 9'),
    ):
        with pytest.raises(UserError, match=sentence):
            explain_components(stranger, photos, **options)
    levels = explain_components(stranger, photos, levels=None)
    assert [one['level'] for one in levels.numbers['levels']] == [1, 2]
    chosen = explain_components(stranger, photos, levels=[1])
    with pytest.raises(UserError, match=r'levels \[1\], and level 2 is asked for'):
        explain_components(stranger, photos, levels=[1, 2], components=chosen.numbers)


@pytest.mark.slow
def test_the_errors_of_a_sweep_are_those_of_each_mask_alone(run, model, photos):
    images = [photos / 'plain' / '0.png', photos / 'marked' / '1.png']
    found = explain_reconstruction(run, images, ratios=[0.75, 0.5], maskings=['RandomMasking', 'BlockMasking'], seed=3)
    settings = found.numbers['settings']
    assert [(one['masking'], one['unit'], one['ratio']) for one in settings] == [
        (masking, 8, ratio) for masking in ('RandomMasking', 'BlockMasking') for ratio in (0.5, 0.75)
    ]
    for one in settings:
        alone = Reconstructor(model, ratio=one['ratio'], masking=one['masking'], seed=3)(images)
        errors = [
            np.abs(x.prediction - x.image)[x.hidden] / model.data_preprocessor.std.flatten().numpy() for x in alone
        ]
        expected = [error.mean() for error in errors]
        np.testing.assert_allclose(list(one['errors'].values()), expected, rtol=1e-4)
        assert one['error_mean'] == pytest.approx(np.mean(expected), rel=1e-4)
        assert one['error_std'] == pytest.approx(np.std(expected, ddof=1), rel=1e-3)
    assert found.numbers['nested']['RandomMasking, unit 8'] is True
    again = explain_reconstruction(
        model, images, ratios=[0.75, 0.5], maskings=['RandomMasking', 'BlockMasking'], seed=3
    )
    assert again.numbers == found.numbers and np.array_equal(np.asarray(again.picture), np.asarray(found.picture))
    assert is_nested([np.array([0, 1, 0], bool), np.array([1, 1, 0], bool)])
    assert not is_nested([np.array([0, 1, 0], bool), np.array([1, 0, 0], bool)])


def test_larger_cells_are_masks_of_the_model(model):
    imgs = torch.zeros(2, 3, 40, 72)  # 2.5 x 4.5 cells of 16 pixels
    torch.manual_seed(0)
    mask = build_masking(model, 'RandomMasking', 16, 0.5)(imgs)
    assert mask.shape == (2, 1, 5, 9) and mask.dtype == torch.bool
    for top in range(0, 5, 2):
        for left in range(0, 9, 2):
            block = mask[:, 0, top : top + 2, left : left + 2].flatten(1)
            assert (block == block[:, :1]).all()
    assert not torch.equal(mask[:, :, :4, :8], mask[:, :, 1:, 1:])  # but for a mask of one value
    own = build_masking(model, None, 8, 0.25)(imgs)
    assert own.sum() == 2 * (45 - int(45 * 0.75)) and model.masking.ratio != 0.25
    assert name_masking(model, {'type': 'ColorNoiseMasking', 'color': 'blue'}) == 'ColorNoiseMasking color=blue'


def test_what_a_model_cannot_take_is_left_out_with_the_reason(model, photos):
    found = explain_reconstruction(model, photos, ratios=[0.5], units=[8, 12, 16], shown=1)
    left = [one for one in found.numbers['settings'] if 'left_out' in one]
    assert [one['unit'] for one in left] == [12]
    assert left[0]['left_out'] == 'Cells of 12 pixels: the model was trained with 8, and takes multiples of that.'
    small = np.asarray(Image.open(photos / 'plain' / '0.png'))[:16, :16]  # 2 x 2 cells
    mixed = explain_reconstruction(model, [small, photos / 'plain' / '1.png'], ratios=[0.5, 0.9], shown=2)
    refused = mixed.numbers['settings'][1]
    assert 'hides 4 of 4 cells' in refused['refused']['image 0'] and len(refused['errors']) == 1
    for options, sentence in (
        (dict(units=[12, 4]), 'units 12, 4 are no multiples of the 8 pixels'),
        (dict(ratios=[1.0]), r'ratio=1\.0 must be between'),
        (dict(ratios=[]), 'No ratio'),
        (dict(maskings=['RandomMaskin']), 'did you mean RandomMasking'),
    ):
        with pytest.raises(UserError, match=sentence):
            explain_reconstruction(model, photos, **options)
    with pytest.raises(UserError, match='under any mask; image 0: Ratio'):
        explain_reconstruction(model, small, ratios=[0.9])


def groups_of_vectors(per_group=12, seed=0):
    """Three groups of vectors, and their labels."""
    rng = np.random.default_rng(seed)
    centers = rng.normal(size=(3, 10)) * 3
    vectors = np.concatenate([center + rng.normal(size=(per_group, 10)) for center in centers])
    return vectors.astype(np.float32), [name for name in 'abc' for _ in range(per_group)]


def trust_by_hand(vectors, points, k):
    """Venna and Kaski's trustworthiness, from the ranks."""
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    near, far = (np.linalg.norm(x[:, None] - x[None], axis=2) for x in (points, vectors))
    n, penalty = len(points), 0
    for i in range(n):
        others = [j for j in range(n) if j != i]
        rank = {j: r for r, j in enumerate(sorted(others, key=lambda j: far[i, j]), 1)}
        penalty += sum(max(0, rank[j] - k) for j in sorted(others, key=lambda j: near[i, j])[:k])
    return 1 - 2 / (n * k * (2 * n - 3 * k - 1)) * penalty


def test_a_map_keeps_neighbors_and_says_how_far():
    vectors, labels = groups_of_vectors()
    made = map_vectors(vectors, seed=1)
    assert made.points.shape == (36, 2) and made.options == {'perplexity': 11, 'seed': 1}
    assert made.trustworthiness > 0.9
    cloud = np.random.default_rng(0).normal(size=(40, 10)).astype(np.float32)  # of which a plane keeps less
    rough = map_vectors(cloud, seed=1)
    assert rough.trustworthiness == pytest.approx(trust_by_hand(cloud, rough.points, 10), abs=1e-6)
    assert rough.trustworthiness < made.trustworthiness
    assert np.array_equal(made.points, map_vectors(vectors, seed=1).points)
    assert measure_map_accuracy(made.points, labels, 5) > 0.9
    with pytest.raises(UserError, match='3 to 20000 images, and there are 2: give more'):
        map_vectors(vectors[:2])
    with pytest.raises(UserError, match='All 4 vectors are the same'):
        map_vectors(np.ones((4, 3), np.float32))
    with pytest.raises(UserError, match='neighbors=12 must be from 1 to 11'):
        map_vectors(vectors, neighbors=12)


def test_the_accuracy_of_labels_leaves_each_image_out():
    vectors, labels = groups_of_vectors(5)
    normal = vectors.astype(np.float64) / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = normal @ normal.T
    right = 0
    for row in range(len(labels)):
        others = sorted((i for i in range(len(labels)) if i != row), key=lambda i: -cosines[row, i])[:3]
        votes = {name: sum(np.exp(cosines[row, i] / 0.07) for i in others if labels[i] == name) for name in 'abc'}
        right += max(votes, key=votes.get) == labels[row]
    assert measure_label_accuracy(vectors, labels, 3) == pytest.approx(right / len(labels))
    assert measure_label_accuracy(vectors, [str(i) for i in range(15)], 3) == 0  # each is alone
    points = np.array([[0, 0], [1, 0], [0, 1], [9, 9], [9, 8], [8, 9]], float)
    assert (
        measure_map_accuracy(points, list('aaabbb'), 2) == 1 and measure_map_accuracy(points, list('ababab'), 1) < 0.7
    )


@pytest.mark.slow
def test_a_map_of_a_folder_is_colored_by_its_classes(run, photos, tmp_path):
    extractor = load_feature_extractor(run, device='cpu')
    found = explain_map(extractor, photos, thumbnails=3)
    numbers = found.numbers
    assert numbers['color'] == 'label' and numbers['classes'] == 2 and numbers['largest_class'] == 0.5
    assert [one['label'] for one in numbers['points']] == ['marked'] * 4 + ['plain'] * 4
    assert numbers['knn_accuracy']['vectors'] == pytest.approx(
        measure_label_accuracy(extractor(photos).choose(), ['marked'] * 4 + ['plain'] * 4), abs=1e-4
    )
    (tmp_path / 'labels.csv').write_text('\n'.join(f'{path},{path.stem}' for path in sorted(photos.rglob('*.png'))))
    table = explain_map(extractor, photos, labels=tmp_path / 'labels.csv')
    assert table.numbers['classes'] == 4 and table.numbers['largest_class'] == 0.25
    embed(run, photos, tmp_path / 'features.npz', device='cpu')
    again = explain_map(tmp_path / 'features.npz', photos, color='cluster', clusters=2)
    assert again.numbers['clusters'] == 2 and 'k-means' in again.caption
    np.testing.assert_allclose(
        [(one['x'], one['y']) for one in again.numbers['points']], [(one['x'], one['y']) for one in numbers['points']]
    )
    plain = explain_map(extractor, photos / 'plain', clusters=2)
    assert plain.numbers['color'] == 'cluster' and 'no labels to color by' in plain.caption
    assert explain_map(extractor, photos, color='none').numbers['color'] == 'none'
    for images, options, sentence in (
        (photos / 'plain', dict(color='label'), 'lie in no class folder'),
        (photos, dict(labels=['a', 'b']), '2 labels for 8 images'),
        (photos, dict(labels=['a'] * 8), 'All 8 images have the label a'),
        (photos, dict(clusters=3), 'choose color cluster'),
        (photos, dict(color='red'), "color='red' must be one of"),
        (photos, dict(labels=['a'], color='none'), 'does not show them'),
        (photos, dict(thumbnails=-1), 'thumbnails=-1'),
        (photos, dict(method='pca'), "method='pca' must be one of tsne, umap"),
    ):
        with pytest.raises(UserError, match=sentence):
            explain_map(extractor, images, **options)


def test_umap_is_asked_for_and_its_absence_is_one_sentence(run, photos, monkeypatch):
    called = {}

    class Fake:
        min_dist = 0.1

        def __init__(self, **options):
            called.update(options)

        def fit_transform(self, vectors):
            return vectors[:, :2]

    monkeypatch.setitem(sys.modules, 'umap', SimpleNamespace(UMAP=Fake, __spec__=object()))
    vectors, _ = groups_of_vectors()
    made = map_vectors(vectors, 'umap', seed=4, neighbors=5)
    assert called['n_neighbors'] == 5 and called['random_state'] == 4 and called['init'] == 'spectral'
    assert made.options == {'n_neighbors': 5, 'min_dist': 0.1, 'seed': 4}
    monkeypatch.setitem(sys.modules, 'umap', None)  # as if it were not installed
    with pytest.raises(UserError, match=r"UMAP needs umap-learn: pip install 'mae_toolkit\[explain\]'"):
        explain_map(run, photos, method='umap', device='cpu')


def test_pictures_on_a_map_do_not_hide_each_other():
    points = np.stack(np.meshgrid(np.arange(10.0), np.arange(10.0)), 2).reshape(-1, 2)
    chosen = spread_points(points, 50, 0.25)
    gaps = [np.linalg.norm(points[i] - points[j]) for i in chosen for j in chosen if i != j]
    assert min(gaps) >= 0.25 * 9 and 9 <= len(chosen) < 50 and len(spread_points(points, 4, 0.25)) == 4
    assert spread_points(np.zeros((5, 2)), 3) == [0]


def test_many_groups_get_a_legend_of_the_largest():
    rng = np.random.default_rng(0)
    groups = [f'_class {i % 25}' for i in range(100)] + ['x' * 60] * 5
    pictures = [draw_embedding_map(rng.normal(size=(105, 2)), some, 'title', 't-SNE') for some in (groups, None)]
    dark = [(np.asarray(picture).max(2) < 64).mean(0) > 0.7 for picture in pictures]  # columns of the frame
    right = [np.flatnonzero(columns).max() / len(columns) for columns in dark]
    assert right[0] < 0.85 and right[1] > 0.97  # the legend stands beside the frame


def test_images_of_five_channels_of_16_bits(tmp_path):
    changes = {f'model__data_preprocessor__{name}': [value] * 5 for name, value in (('mean', 3e4), ('std', 1.5e4))}
    run = write_autoencoder(
        tmp_path / 'run', model__encoder__in_chans=5, model__objectives__pixel__target__in_chans=5, **changes
    )
    rng = np.random.default_rng(0)
    images = [(rng.random((40, 56, 5)) * 60000).astype(np.uint16) for _ in range(3)]
    errors = explain_reconstruction(run, images, ratios=[0.5], device='cpu').numbers['settings'][0]
    assert len(errors['errors']) == 3 and 0.5 < errors['error_mean'] < 5
    extractor = load_feature_extractor(run, device='cpu')
    assert len(explain_map(extractor, images, color='none', thumbnails=3).numbers['points']) == 3
    assert explain_components(extractor, images).numbers['images'] == 3
