"""Detectors of anomalies: fitted, calibrated, kept in files, and refused where something does not fit."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_sets import SMALL, make_image, make_things, write_category, write_normal
from mae_toolkit.apis import fit_anomaly_detector, load_anomaly_detector
from mae_toolkit.apis.anomaly_files import _resize_mask
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly import METHODS, AnomalyMethod, compute_aupro, compute_auroc
from mae_toolkit.evaluation.anomaly.file import read_detector
from mae_toolkit.evaluation.anomaly.layout import list_normal, list_tested, read_mask
from mae_toolkit.evaluation.anomaly.scoring import find_boxes
from mae_toolkit.evaluation.anomaly.splits import split_normal


@pytest.fixture(scope='module')
def things(tmp_path_factory):
    """A category, an encoder and a masked autoencoder."""
    return make_things(tmp_path_factory.mktemp('things'))


@pytest.fixture(scope='module')
def detector(things):
    return fit_anomaly_detector(things / 'encoder', things / 'bottle', **SMALL)


def fit(things, *methods, **changes):
    source = things / 'model' if methods == ('reconstruction',) else things / 'encoder'
    return fit_anomaly_detector(source, things / 'bottle', methods, **SMALL | changes)


@pytest.mark.parametrize(
    ('methods', 'changes'),
    [
        (['patchcore'], {'reweight': True, 'coreset': 0.5}),
        (['padim'], {'dimensions': 6}),
        (['anomalydino'], {'levels': 2}),
        (['reconstruction'], {'masks': 3}),
        (['patchcore', 'reconstruction'], {'size': (64, 48)}),
        (['patchcore'], {'tile': 32}),
    ],
    ids=str,
)
def test_a_method_finds_the_defects_and_a_file_holds_it(things, tmp_path, methods, changes):
    if len(methods) > 1:
        changes = changes | {'reconstruct_with': things / 'model'}
    detector = fit(things, *methods, **changes)
    measured = detector.evaluate(things / 'bottle')['measured']['bottle']
    assert (measured['normal'], measured['defective']) == (4, 4)
    assert measured['max']['auroc'] == 1 and measured['pixel_auroc'] > 0.95 and measured['aupro_0.3'] > 0.8
    detector.save(tmp_path / 'detector.safetensors')
    loaded = load_anomaly_detector(tmp_path / 'detector.safetensors', device='cpu')
    assert loaded.evaluate(things / 'bottle')['measured']['bottle'] == measured
    again = fit(things, *methods, **changes)
    again.save(tmp_path / 'again.safetensors')
    (about, states), (other, same) = (read_detector(tmp_path / f'{name}.safetensors') for name in ('again', 'detector'))
    assert about == other
    assert all(torch.equal(one[key], two[key]) for one, two in zip(states, same, strict=True) for key in one)


def test_thresholds_are_percentiles_of_held_out_normal_images(things, detector):
    split = split_normal(list_normal(things / 'bottle'))
    assert len(split.fitted) == 10 and len(split.held_out) == 2 and not set(split.fitted) & set(split.held_out)
    held_out = detector(split.held_out)
    thresholds = detector.detector.thresholds
    for name in ('max', 'top'):
        assert thresholds[name] == pytest.approx(max(one.scores[name] for one in held_out), rel=1e-5)
    assert thresholds['pixel'] == pytest.approx(max(one.map.max() for one in held_out), rel=1e-5)
    # Of four images, the median lies between the second and the third, and is the higher one.
    good, plain = things / 'bottle' / 'test' / 'good', []
    for percentile in (50, 95):
        plain.append(fit(things, 'patchcore', held_out_images=good, percentile=percentile))
    values = sorted(one.scores['max'] for one in plain[0](good))
    for one, expected in zip(plain, values[2:], strict=True):
        assert one.detector.thresholds['max'] == pytest.approx(expected, rel=1e-5)
        assert sum(found.is_anomalous for found in one(good)) == (expected == values[2])


def test_patches_of_held_out_images_have_mean_0_and_deviation_1(things):
    good = things / 'bottle' / 'test' / 'good'
    detector = fit(things, 'padim', held_out_images=good).detector
    raw = torch.cat([one.grids[0].flatten() for one in detector._measure(sorted(good.glob('*.png')), None)]).double()
    branch = detector.branches[0]
    assert (branch.offset, branch.scale) == pytest.approx((float(raw.mean()), float(raw.std(correction=0))))


def test_the_test_set_has_no_part_in_the_thresholds(things, tmp_path, detector):
    shutil.copytree(things / 'bottle' / 'train', tmp_path / 'bottle' / 'train')
    alone = fit_anomaly_detector(things / 'encoder', tmp_path / 'bottle', **SMALL)
    assert alone.detector.thresholds == detector.detector.thresholds


def test_of_few_images_each_is_left_out_once(things, tmp_path):
    write_normal(tmp_path / 'few', 3)
    detector = fit_anomaly_detector(things / 'encoder', tmp_path / 'few', ['anomalydino'], **SMALL)
    assert detector.about['threshold_images'] == 3 and detector.about['left_out_in_turn']
    assert len(detector.detector.branches[0].method.bank) == 3 * 48  # all of them are in the memory at the end
    values = []
    for number in range(3):
        paths = sorted((tmp_path / 'few').glob('*.png'))
        left_out = paths.pop(number)
        (tmp_path / f'others{number}').mkdir()
        for path in paths:
            shutil.copy(path, tmp_path / f'others{number}')
        other = fit_anomaly_detector(things / 'encoder', tmp_path / f'others{number}', ['anomalydino'], **SMALL)
        (raw,) = other.detector._measure([left_out], None)
        values.append(float(raw.grids[0].max()))
    branch = detector.detector.branches[0]
    assert detector.detector.thresholds['max'] == pytest.approx((max(values) - branch.offset) / branch.scale, rel=1e-4)


@pytest.mark.slow
def test_shots_are_drawn_by_the_seed(things):
    normal = list_normal(things / 'bottle')
    drawn = [split_normal(normal, shots=2, seed=seed).fitted for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2] and len(drawn[0]) == 2
    detector = fit(things, 'anomalydino', shots=1)
    assert detector.about['fitted_images'] == 1 and not detector.detector.thresholds
    (found,) = detector(things / 'bottle' / 'test' / 'cut' / '000.png')
    assert found.is_anomalous is None and not found.boxes
    measured = detector.evaluate(things / 'bottle')['measured']['bottle']
    assert measured['max']['f1'] is None and measured['pixel_auroc'] > 0.9
    with pytest.raises(UserError, match='1 normal image cannot be used to fuse'):
        fit(things, 'patchcore', 'anomalydino', shots=1)
    with pytest.raises(UserError, match='bottle has 12 normal images, and shots=16'):
        fit(things, 'patchcore', shots=16)


@pytest.mark.slow
def test_maps_are_standardized_before_they_are_averaged(things):
    fused = fit(things, 'patchcore', 'padim')
    alone = [fit(things, name) for name in ('patchcore', 'padim')]
    path = things / 'bottle' / 'test' / 'cut' / '001.png'
    maps = [one(path)[0].map for one in (fused, *alone)]
    np.testing.assert_allclose(maps[0], (maps[1] + maps[2]) / 2, rtol=1e-3, atol=1e-3)
    with pytest.raises(UserError, match='reweight is for patchcore alone'):
        fit(things, 'patchcore', 'padim', reweight=True)


def test_several_categories_go_into_one_model(things, tmp_path):
    for number, name in enumerate(('cable', 'tile')):
        write_category(tmp_path / 'all' / name, seed=100 * number)
    detector = fit_anomaly_detector(things / 'encoder', tmp_path / 'all', **SMALL)
    assert detector.about['categories'] == [['cable', 12], ['tile', 12]]
    result = detector.evaluate(tmp_path / 'all', tmp_path / 'measured.json')
    measured = result['measured']
    assert list(measured) == ['cable', 'tile', 'mean'] and measured['mean']['defective'] == 8
    for name in ('pixel_auroc', 'aupro_0.05'):
        assert measured['mean'][name] == pytest.approx((measured['cable'][name] + measured['tile'][name]) / 2)
    assert json.loads((tmp_path / 'measured.json').read_text()) == json.loads(json.dumps(result))
    detector.evaluate(tmp_path / 'all', tmp_path / 'measured.json')  # its own file may be replaced
    (tmp_path / 'measured.json').write_text('{}')
    with pytest.raises(UserError, match='this tool did not write it'):
        detector.evaluate(tmp_path / 'all', tmp_path / 'measured.json')


def test_measures_are_those_of_the_maps(things, detector):
    result = detector.evaluate(things / 'bottle')
    rows, measured = result['images'], result['measured']['bottle']
    truth = np.array([row['kind'] != 'good' for row in rows])
    scores = np.array([row['scores']['top'] for row in rows])
    assert measured['top']['auroc'] == compute_auroc(scores, truth)
    paths = sorted((things / 'bottle' / 'test').glob('*/*.png'))
    maps = [found.map for found in detector(paths)]
    masks = [np.zeros((64, 48), bool) for _ in maps]
    for path, mask in zip(paths, masks):
        truth_file = things / 'bottle' / 'ground_truth' / path.parent.name / f'{path.stem}_mask.png'
        if truth_file.exists():
            mask |= np.array(Image.open(truth_file)) > 0
    assert measured['aupro_0.3'] == pytest.approx(compute_aupro(maps, masks, 0.3))


def test_a_folder_files_arrays_and_pictures_are_the_same(things, detector):
    folder = things / 'bottle' / 'test' / 'cut'
    paths = sorted(folder.glob('*.png'))
    pictures = [Image.open(path) for path in paths]
    found = detector(folder)
    assert [one.name for one in found] == [path.name for path in paths] and found[0].map.shape == (64, 48)
    detector.detector.batch_size = 3
    for images in (paths, pictures, [np.array(one) for one in pictures], str(folder / '*.png')):
        for one, other in zip(found, detector(images), strict=True):
            np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-4)
    detector.detector.batch_size = 16
    (single,) = detector(np.array(pictures[0]))
    assert single.name == 'image 0' and single.is_anomalous
    picture = detector.draw(pictures[0], single)
    assert isinstance(picture, Image.Image) and picture.size[0] >= 48


def test_pictures_maps_and_boxes_are_written(things, detector, tmp_path):
    folder = tmp_path / 'new'
    folder.mkdir()
    large = Image.fromarray(make_image(5, (64, 48), (16, 20, 32, 40))).resize((96, 128), Image.Resampling.NEAREST)
    large.save(folder / 'large.png')
    Image.fromarray(make_image(6)).save(folder / 'normal.png')
    (folder / 'broken.png').write_bytes(b'no image')
    np.save(folder / 'five.npy', np.zeros((64, 48, 5), np.uint8))
    out = tmp_path / 'out'
    record = detector.write(folder, out)
    assert record == json.loads((out / 'anomalies.json').read_text())
    assert {Path(one['image']).name for one in record['skipped']} == {'broken.png', 'five.npy'}
    entry = next(one for one in record['images'] if one['image'].endswith('large.png'))
    assert (entry['height'], entry['width'], entry['is_anomalous']) == (128, 96, True)
    left, top, right, bottom = entry['boxes'][0]['box']
    assert left < 64 and right > 32 and top < 80 and bottom > 40 and right <= 96 and bottom <= 128
    pixels = np.array(Image.open(out / entry['map'])).astype(float)
    low, high = entry['map_range']
    restored = low + pixels / 65535 * (high - low)
    found = next(one for one in detector([folder / 'large.png']))
    assert restored.shape == (128, 96)
    np.testing.assert_allclose(restored, found.resize_map(), atol=(high - low) / 60000)
    assert (out / entry['picture']).is_file()
    detector.write(folder, out)  # its own files may be replaced
    (out / entry['picture']).write_bytes(b'of another')
    with pytest.raises(UserError, match='this tool did not write'):
        detector.write(folder, out)
    with pytest.raises(UserError, match='None of 1 image can be scored'):
        detector.write(folder / 'broken.png', tmp_path / 'none')


def test_boxes_are_in_pixels_of_the_file():
    heat = np.zeros((10, 20))
    heat[2:4, 5:9], heat[8, 19], heat[9, 18] = 3, 5, 4  # the last two touch at a corner
    boxes = find_boxes(heat, (20, 60), 2)
    assert boxes == [
        {'box': [54.0, 16.0, 60.0, 20.0], 'score': 5.0, 'area': 12},
        {'box': [15.0, 4.0, 27.0, 8.0], 'score': 3.0, 'area': 48},
    ]
    assert find_boxes(heat, (20, 60), None) == []


class FarFromMean(AnomalyMethod):
    """A method of a user: the distance to the mean of all patches."""

    def __init__(self, power: float = 1.0, seed: int = 0) -> None:
        self.power, self.added, self.mean = power, [], torch.empty(0)

    def add(self, maps):
        self.added.append(maps.movedim(1, -1).flatten(0, 2))

    def finish(self, show_progress=True):
        self.mean = torch.cat(self.added).mean(0)

    def score(self, maps):
        return (maps - self.mean[:, None, None]).norm(dim=1) ** self.power

    def state(self):
        return {'mean': self.mean}

    def restore(self, state):
        self.mean = state['mean']


def test_a_new_method_is_one_class_and_one_entry(things, tmp_path, monkeypatch):
    monkeypatch.setitem(METHODS, 'mean', FarFromMean)
    detector = fit_anomaly_detector(things / 'encoder', things / 'bottle', ['mean', 'patchcore'], power=2.0, **SMALL)
    detector.save(tmp_path / 'own.safetensors')
    loaded = load_anomaly_detector(tmp_path / 'own.safetensors', device='cpu')
    assert loaded.detector.branches[0].method.power == 2.0
    assert loaded.evaluate(things / 'bottle') == detector.evaluate(things / 'bottle')
    monkeypatch.delitem(METHODS, 'mean')
    with pytest.raises(UserError, match="no method 'mean'"):
        load_anomaly_detector(tmp_path / 'own.safetensors', device='cpu')


def test_masks_get_the_size_of_the_map_by_the_nearest_pixel(things, detector, tmp_path):
    shutil.copytree(things / 'bottle', tmp_path / 'bottle')
    for path in [*(tmp_path / 'bottle' / 'test').glob('*/*'), *(tmp_path / 'bottle' / 'ground_truth').glob('*/*')]:
        image = Image.open(path)
        image.resize((3 * image.width, 2 * image.height), Image.Resampling.NEAREST).save(path)
    # Enlarged masks become what they were, so that a detector that saw them as they are would be measured the same.
    mask = np.zeros((6, 9), bool)
    mask[3, 4] = True
    assert _resize_mask(mask, (3, 3)).nonzero() == (np.array([1]), np.array([1]))
    before = read_mask(list_tested(things / 'bottle')[0], (64, 48))
    image = list_tested(tmp_path / 'bottle')[0]
    assert before.any() and np.array_equal(_resize_mask(read_mask(image, (128, 144)), (64, 48)), before)
    measured = detector.evaluate(tmp_path / 'bottle')['measured']['bottle']
    assert measured['pixel_auroc'] > 0.9
