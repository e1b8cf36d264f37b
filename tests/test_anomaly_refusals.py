"""What detectors of anomalies refuse: settings, folders, masks and encoders that do not fit."""

import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from anomaly_sets import SMALL, make_things, write_normal
from mae_toolkit.apis import fit_anomaly_detector, load_anomaly_detector
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.anomaly.layout import list_tested, read_mask


@pytest.fixture(scope='module')
def things(tmp_path_factory):
    """A category, an encoder and a masked autoencoder."""
    return make_things(tmp_path_factory.mktemp('things'))


@pytest.fixture(scope='module')
def detector(things):
    return fit_anomaly_detector(things / 'encoder', things / 'bottle', **SMALL)


def test_another_encoder_is_refused(things, detector, tmp_path):
    detector.save(tmp_path / 'detector.safetensors')
    torch.manual_seed(1)
    shutil.copytree(things / 'encoder', tmp_path / 'other')
    moved = load_anomaly_detector(tmp_path / 'detector.safetensors', tmp_path / 'other', device='cpu')
    assert moved.detector.thresholds == detector.detector.thresholds
    saved = torch.load(tmp_path / 'other' / 'best_knn.pth')
    saved['state_dict']['encoder.body.stem.0.weight'][0, 0, 0, 0] += 1
    torch.save(saved, tmp_path / 'other' / 'best_knn.pth')
    with pytest.raises(UserError, match='was fitted with an encoder of the hash'):
        load_anomaly_detector(tmp_path / 'detector.safetensors', tmp_path / 'other', device='cpu')
    with pytest.raises(UserError, match='detector.safetensors does not reconstruct: leave it out'):
        load_anomaly_detector(tmp_path / 'detector.safetensors', reconstruct_with=things / 'model', device='cpu')
    (tmp_path / 'text.safetensors').write_bytes(b'nothing')
    with pytest.raises(UserError, match='holds no detector of anomalies'):
        load_anomaly_detector(tmp_path / 'text.safetensors')
    with pytest.raises(UserError, match='There is no file'):
        load_anomaly_detector(tmp_path / 'nowhere.safetensors')
    with pytest.raises(UserError, match='this tool did not write it'):
        detector.save(tmp_path / 'text.safetensors')
    with pytest.raises(UserError, match='ending in .safetensors'):
        detector.save(tmp_path / 'detector.pt')


@pytest.mark.parametrize(
    ('methods', 'changes', 'said'),
    [
        (['patchcor'], {}, "no method 'patchcor'.*patchcore"),
        ([], {}, 'No method is named'),
        (['padim', 'padim'], {}, 'name each method once'),
        (['padim'], {'coreset': 0.1}, "padim: there is no setting 'coreset'"),
        (['patchcore'], {'coreset': 'much'}, "patchcore: coreset='much' is a str, and a number is needed"),
        (['patchcore'], {'neighbors': 2.5}, 'neighbors=2.5 is a float, and a whole number is needed'),
        (['patchcore'], {'levels': (9,)}, 'no level 9'),
        (['patchcore'], {'reconstruct_with': 'runs/x'}, 'A run to reconstruct with is given'),
        (['patchcore'], {'tile': 65}, r'000.png: An image of 64 x 48 pixels is smaller than a tile of 65'),
        (['patchcore'], {'percentile': 0}, 'percentile=0'),
        (['patchcore'], {'decide_by': 'mean'}, "decide_by='mean' must be one of max, top"),
        (['patchcore'], {'smooth': -1.0}, 'smooth=-1.0'),
        (['patchcore'], {'smooth': float('nan')}, 'smooth=nan'),
        (['patchcore'], {'held_out': 1.0}, 'held_out=1.0 must be between 0 and 1'),
        (['padim'], {'shots': 1}, '1 normal image to fit on, and padim needs at least 2'),
        (['reconstruction'], {}, None),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused(things, methods, changes, said):
    if said is None:  # a run of another model
        with pytest.raises(UserError, match='lack|decoder'):
            fit_anomaly_detector(things / 'encoder', things / 'bottle', methods, **SMALL)
        return
    with pytest.raises(UserError, match=said):
        fit_anomaly_detector(things / 'encoder', things / 'bottle', methods, **SMALL | changes)


def test_bad_folders_are_refused(things, tmp_path, detector):
    def fit_on(folder, **changes):
        return fit_anomaly_detector(things / 'encoder', folder, **SMALL | changes)

    with pytest.raises(UserError, match='There is no folder .*nowhere of normal images'):
        fit_on(tmp_path / 'nowhere')
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='has no images'):
        fit_on(tmp_path / 'empty')
    shutil.copytree(things / 'bottle', tmp_path / 'bottle')
    shutil.copytree(tmp_path / 'bottle' / 'test' / 'cut', tmp_path / 'bottle' / 'train' / 'cut')
    with pytest.raises(UserError, match="train holds the folder cut beside 'good'"):
        fit_on(tmp_path / 'bottle')
    with pytest.raises(UserError, match="train holds the folder cut beside 'good'"):
        fit_on(tmp_path / 'bottle' / 'train')
    with pytest.raises(UserError, match="test holds the folder cut beside 'good'"):
        fit_on(tmp_path / 'bottle' / 'test')
    with pytest.raises(UserError, match='12 normal images, such as 000.png, are named more than once'):
        fit_on([things / 'bottle', things / 'bottle' / 'train' / 'good'])
    shutil.rmtree(tmp_path / 'bottle' / 'train')
    with pytest.raises(UserError, match='has no folder train/good'):
        fit_on(tmp_path / 'bottle')
    with pytest.raises(UserError, match='12 images, such as 000.png, are to be fitted on and to be held out'):
        fit_on(things / 'bottle', held_out_images=things / 'bottle' / 'train' / 'good')
    write_normal(tmp_path / 'five', 3)
    for path in (tmp_path / 'five').glob('*'):
        np.save(path.with_suffix('.npy'), np.zeros((64, 48, 5), np.uint8))
        path.unlink()
    with pytest.raises(UserError, match='5 channels'):
        fit_on(tmp_path / 'five')

    with pytest.raises(UserError, match="has no folder 'test'"):
        detector.evaluate(tmp_path / 'empty')
    mask = tmp_path / 'bottle' / 'ground_truth' / 'cut' / '001_mask.png'
    Image.fromarray(np.zeros((32, 48), np.uint8)).save(mask)
    with pytest.raises(UserError, match='001_mask.png has 32 x 48 pixels, and its image .* 64 x 48'):
        detector.evaluate(tmp_path / 'bottle')
    colors = np.zeros((64, 48, 4), np.uint8)
    colors[:8, :8, 0], colors[..., 3] = 255, 255  # what is not transparent is not a defect for that
    Image.fromarray(colors).save(mask)
    image = next(one for one in list_tested(tmp_path / 'bottle') if one.path.name == '001.png' and one.is_defective)
    assert read_mask(image, (64, 48)).sum() == 64
    mask.unlink()
    with pytest.raises(UserError, match='has no mask of 001.png'):
        detector.evaluate(tmp_path / 'bottle')
    (tmp_path / 'bottle' / 'test' / 'cut' / '001.png').write_bytes(b'no image')
    shutil.rmtree(tmp_path / 'bottle' / 'ground_truth')
    with pytest.raises(UserError, match='1 test image of bottle cannot be read'):
        detector.evaluate(tmp_path / 'bottle')
    (tmp_path / 'bottle' / 'test' / 'cut' / '001.png').unlink()
    measured = detector.evaluate(tmp_path / 'bottle')['measured']['bottle']
    assert measured['defective'] == 3 and 'pixel_auroc' not in measured  # nobody has drawn the defects


def test_images_that_cannot_be_read_are_left_out(things, tmp_path):
    write_normal(tmp_path / 'some', 3)
    (tmp_path / 'some' / '000.png').write_bytes(b'no image')
    detector = fit_anomaly_detector(things / 'encoder', tmp_path / 'some', **SMALL)
    assert list(detector.about['skipped']) == [str(tmp_path / 'some' / '000.png')]
    assert detector.about['threshold_images'] == 2


def test_numbers_of_another_type_are_said_once(things, detector, tmp_path):
    (tmp_path / 'some').mkdir()
    Image.fromarray(np.full((64, 48), 40000, np.uint16)).save(tmp_path / 'some' / '0.png')
    with pytest.raises(UserError, match=r'scored; \S+0\.png holds numbers of uint16, [^/]+[^.]\.$'):
        detector.write(tmp_path / 'some', tmp_path / 'found')


def test_features_that_are_not_finite_are_refused(things, tmp_path):
    shutil.copytree(things / 'encoder', tmp_path / 'encoder')
    saved = torch.load(tmp_path / 'encoder' / 'best_knn.pth')
    saved['state_dict']['encoder.body.stem.0.weight'][0] = 3e38  # sums overflow
    torch.save(saved, tmp_path / 'encoder' / 'best_knn.pth')
    with pytest.raises(UserError, match='What padim is given of the images is not finite'):
        fit_anomaly_detector(tmp_path / 'encoder', things / 'bottle', ['padim'], **SMALL)
