"""Evaluating an encoder on a labeled set: from files to a table, and what is refused."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from mae_toolkit.apis import evaluate, load_config
from mae_toolkit.apis.embedding import embed
from mae_toolkit.commands import main
from mae_toolkit.datasets import LabeledDataset
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import FeatureExtractor
from mae_toolkit.evaluation.probes.data import ProbeResult
from mae_toolkit.evaluation.probes.maps import encode_images
from mae_toolkit.evaluation.probes.report import Evaluation
from mae_toolkit.evaluation.probes.sets import keep_fraction, load_masks, read_set
from mae_toolkit.evaluation.probes.table import OF_CLASSES, OF_MASKS, Row
from mae_toolkit.models.features import Features
from test_export_folder import ENCODERS, text_of, write_checkpoint
from test_load_encoder import config_of, write_run
from tiny import ROOT, refuse

NUCLEI = ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'dsb2018'
CHEAP = ('knn', 'logistic', 'kmeans', 'retrieval', 'rank')


def write_classes(root, splits=('train', 'val', 'test'), count=6, names=('ant', 'bee', 'cow')):
    """Noisy images of one color per class."""
    generator = np.random.default_rng(0)
    for split in splits:
        for number, name in enumerate(names):
            (root / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = generator.integers(0, 160, (48, 64, 3))
                pixels[..., number % 3] += 90
                Image.fromarray(pixels.astype(np.uint8)).save(root / split / name / f'{i}.png')
    return root


@pytest.fixture(scope='module')
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('runs') / 'photos'
    write_run(folder, ENCODERS['ConvNeXt'])
    return folder


@pytest.fixture(scope='module')
def photos(tmp_path_factory):
    return write_classes(tmp_path_factory.mktemp('photos'))


@pytest.fixture(scope='module')
def found(run, photos, tmp_path_factory):
    out = tmp_path_factory.mktemp('out') / 'evaluation'
    return evaluate(run, photos, poolings=['mean', 'max'], out=out), out


@pytest.mark.slow
def test_every_level_and_pooling_is_read_by_every_probe(found):
    result, out = found
    vectors = [f'level{level}.{pooling}' for level in (1, 2, 3, 4) for pooling in ('mean', 'max')]
    maps = [f'level{level}.patches' for level in (1, 2, 3, 4)]
    expected = {(f, name) for name, probe in OF_CLASSES.items() for f in (maps if probe.takes == 'maps' else vectors)}
    assert {(row.features, row.probe) for row in result.rows} == expected and len(result.rows) == len(expected)
    assert result.images == {'train': 18, 'val': 18, 'test': 18, 'held_out': 4}
    assert all(0 <= score <= 1 for row in result.rows for score in row.result.test.values() if 'rank' not in row.probe)
    assert result.best.result.test['accuracy'] > 0.6 and result.about['preparation']['short_side'] == 80
    written = json.loads((out / 'evaluation.json').read_text())
    assert written['best'] == json.loads(json.dumps(result.best.to_dict())) and {'val', 'test'} < written['best'].keys()
    assert len(written['results']) == len(expected)
    assert written['classes'] == ['ant', 'bee', 'cow'] and len(written['encoder']) == 16
    text = (out / 'evaluation.md').read_text()
    assert all(name in text for name in (*vectors, *maps, 'attentive', 'recall@5', 'R-precision'))
    assert 'Settings of a probe (k, temperature, C, learning rate) were chosen on 4 of 18 training images' in text
    with Image.open(out / 'evaluation.png') as picture:
        assert picture.width > 800


@pytest.mark.slow
def test_a_second_evaluation_is_the_same_and_replaces_its_own_files_only(found, run, photos, tmp_path):
    result, out = found
    again = evaluate(run, photos, poolings=['mean', 'max'], out=out, probes=CHEAP, levels=[2, 4])
    kept = [row for row in result.rows if row.probe in CHEAP and row.features[5] in '24']
    assert again.rows == kept
    (tmp_path / 'evaluation.json').write_text('{"mine": 1}')
    with pytest.raises(UserError, match=r'1 file that this tool did not write .*evaluation\.json'):
        evaluate(run, photos, probes=['rank'], out=tmp_path)


def test_the_best_is_chosen_on_validation_and_not_on_the_test():
    def row(features, probe, val, test):
        return Row(features, probe, ProbeResult({'accuracy': val, 'nmi': val}, {'accuracy': test, 'nmi': test}))

    rows = [
        row('level1.mean', 'knn', 0.5, 0.9),
        row('level2.mean', 'knn', 0.6, 0.1),
        row('level2.mean', 'logistic', 0.6, 0.2),
        row('level1.mean', 'kmeans', 0.9, 0.2),
    ]
    for one in rows[:3]:
        one.result.settings.update(k=3)
    probes = {name: OF_CLASSES[name] for name in ('knn', 'logistic')}
    result = Evaluation(rows[:3], probes, {'train': 80, 'val': 40, 'test': 50, 'held_out': 16})
    assert result.best is rows[1]  # the first of equal ones
    assert result.best_of_each == {'knn': rows[1], 'logistic': rows[2]}
    text = result.format()
    assert 'Best on validation: knn of level2.mean (k 3), 60.0 there and 10.0 on the test.' in text
    assert '10.0*' in text and '90.0*' not in text
    whole = Evaluation(rows, probes | {'kmeans': OF_CLASSES['kmeans']}, result.images)
    assert whole.best is rows[1]  # clusters are not accuracy


def test_masks_are_read_by_patches(run, tmp_path):
    result = evaluate(run, NUCLEI, levels=[1, 3], size=64, out=tmp_path / 'out')
    assert result.about['task'] == 'masks'
    assert result.about['preparation']['short_side'] is None  # whole images, as masks are resized
    assert {(row.features, row.probe) for row in result.rows} == {
        (f'level{level}.patches', name) for level in (1, 3) for name in OF_MASKS
    }
    assert any('the test is the split val' in note for note in result.notes)
    assert result.best.result.test['miou'] > 0.45
    assert '| features' in (tmp_path / 'out' / 'evaluation.md').read_text()


def test_masks_are_resized_as_pillow_does(tmp_path):
    labeled = read_set(NUCLEI)
    sizes = np.array([Image.open(path).size[::-1] for path in labeled.images])
    found = load_masks(labeled, sizes, (40, 56))
    for mask, path in zip(found, labeled.masks, strict=True):
        expected = np.array(Image.open(path).resize((56, 40), Image.Resampling.NEAREST))
        assert np.array_equal(mask, expected)
    with pytest.raises(UserError, match='EXIF may rotate it'):
        load_masks(labeled, sizes + 1, (40, 56))


@pytest.mark.slow
def test_vectors_of_a_file_give_the_same_and_those_of_another_encoder_are_refused(run, photos, tmp_path):
    features = tmp_path / 'features.npz'
    embed(run, photos, features, poolings=['mean'])
    result = evaluate(run, photos, features=features, seed=3)
    assert {row.probe for row in result.rows} == {'knn', 'logistic', 'linear', 'kmeans', 'retrieval', 'rank'}
    expected = evaluate(run, photos, poolings=['mean'], probes=CHEAP, seed=3)
    assert [row for row in result.rows if row.probe in CHEAP] == expected.rows
    assert any('probes of maps are left out' in note for note in result.notes)
    with pytest.raises(UserError, match='attentive reads maps, and a file of features holds vectors'):
        evaluate(run, photos, features=features, probes=['knn', 'attentive'])
    torch.manual_seed(1)
    write_run(tmp_path / 'other', ENCODERS['ResNet'])
    with pytest.raises(UserError, match=r'features.npz was made by an encoder of other weights \(\w{16}, and this one'):
        evaluate(tmp_path / 'other', photos, features=features)
    embed(run, photos / 'train', tmp_path / 'part.npz', poolings=['mean'])
    with pytest.raises(UserError, match=r'part.npz lacks 54 of the 54 images'):
        evaluate(run, photos, features=tmp_path / 'part.npz')


@pytest.mark.slow
def test_a_config_with_a_checkpoint_or_without_training(run, photos, tmp_path):
    config = tmp_path / 'config.py'
    config.write_text(text_of(config_of(ENCODERS['ConvNeXt'])))
    arguments = dict(probes=['knn', 'rank'], poolings=['mean'])
    expected = evaluate(run / 'best_knn.pth', photos, **arguments)
    trained = evaluate(config, photos, run / 'best_knn.pth', **arguments)
    assert trained.rows == expected.rows and trained.about['encoder'] == expected.about['encoder']
    untrained = evaluate(config, photos, 'random', **arguments)
    assert untrained.about['encoder'] not in (expected.about['encoder'], None)
    assert evaluate(config, photos, 'random', **arguments).rows == untrained.rows
    assert evaluate(config, photos, 'random', seed=1, **arguments).about['encoder'] != untrained.about['encoder']
    assert evaluate(load_config(config), photos, run / 'best_knn.pth', **arguments).rows == expected.rows
    with pytest.raises(UserError, match='config.py is a config, which says .* leave out the architecture resnet18'):
        evaluate(config, photos, 'random', encoder='resnet18')
    for source in (config, load_config(config)):
        with pytest.raises(UserError, match=r'config.py is a config, and its weights are missing'):
            evaluate(source, photos)


def test_what_a_set_must_have(run, photos, tmp_path):
    one = write_classes(tmp_path / 'one', names=['ant'])
    with pytest.raises(UserError, match=r'has 1 class \(ant\), and knn tells classes apart'):
        evaluate(run, one)
    ranks = evaluate(run, one, probes=['rank', 'patch-rank'])
    assert {row.probe for row in ranks.rows} == {'rank', 'patch-rank'}
    assert ranks.describe()[0] == 'Effective ranks of training images.'
    loose = shutil.copytree(photos / 'train', tmp_path / 'loose')
    shutil.copy(photos / 'test' / 'ant' / '0.png', loose)
    with pytest.raises(UserError, match='1 of the 19 images of .* lie in no class folder'):
        evaluate(run, loose)
    untrained = shutil.copytree(photos, tmp_path / 'untrained')
    shutil.rmtree(untrained / 'train' / 'bee')
    with pytest.raises(UserError, match=r'1 of the 3 classes .* has no training image \(bee\)'):
        evaluate(run, untrained)
    with pytest.raises(UserError, match='no tokens for the pooling class and prefix'):
        evaluate(run, photos, probes=['knn'], poolings=['class', 'prefix'])
    with pytest.raises(UserError, match='lies among the images of'):  # its picture would be one without a class
        evaluate(run, photos, out=photos / 'evaluation')
    with pytest.raises(UserError, match=r"no probe 'nearest'"):
        evaluate(run, photos, probes=['nearest'])
    with pytest.raises(UserError, match='patch-knn does not go with class labels'):
        evaluate(run, photos, probes=['patch-knn'])
    with pytest.raises(UserError, match='500 neighbors are asked for, and 14 training images'):
        evaluate(run, photos, probes=['knn'], poolings=['mean'], neighbors=[5, 500])


def test_a_broken_image_is_left_out_and_said(run, photos, tmp_path):
    broken = shutil.copytree(photos, tmp_path / 'broken')
    (broken / 'train' / 'bee' / '3.png').write_bytes(b'\x89PNG\r\n\x1a\n nothing')
    result = evaluate(run, broken, probes=['rank'], poolings=['mean'])
    assert list(result.skipped) == ['train/bee/3.png'] and result.images['train'] == 17
    assert 'cannot be read and are left out: train/bee/3.png' in result.format()


class FakeEncoder(nn.Module):
    """One map of given values for each image."""

    out_channels = (2,)
    has_class_token = False

    def __init__(self, value, side=3):
        super().__init__()
        self.weight, self.value, self.side = nn.Parameter(torch.zeros(1)), value, side

    def encode(self, imgs):
        return Features.from_maps([torch.full((len(imgs), 2, self.side, self.side), self.value)])


def encode(value, side=3, **arguments):
    extractor = FeatureExtractor(FakeEncoder(value, side), lambda file: torch.zeros(3, 6, 6), ['mean'], workers=0)
    array = np.zeros((6, 6, 3), np.uint8)
    return encode_images(extractor, [array] * 5, list('abcde'), True, **arguments)


def test_maps_are_kept_in_half_precision_where_it_holds_them():
    assert encode(1000.0).maps['level1.patches'].dtype == torch.float16
    large = encode(1e6).maps['level1.patches']
    assert large.dtype == torch.float32 and large.isfinite().all() and large.shape == (5, 2, 3, 3)
    assert encode(1.0, 40, most_positions=16).maps['level1.patches'].shape == (5, 2, 16, 16)


def test_what_does_not_fit_or_is_not_finite_is_refused():
    with pytest.raises(UserError, match=r'The maps of 5 images take 0.2 GiB, and 0.1 GiB of memory may be used'):
        encode(1.0, 3000, free=2**28)
    with pytest.raises(UserError, match=r'level1.mean of 5 of 5 images is not finite, the first of a'):
        encode(float('nan'))


def test_the_tool_and_the_command(run, photos, capsys):
    text = refuse('evaluate', run, '--on', photos, '--probes', 'knn', '--neighbors', 99, plain=True)
    assert '99 neighbors are asked for' in text
    half = ['--label-fraction', '0.5']
    main(['evaluate', str(run), '--on', str(photos), '--probes', 'knn', 'rank', '--poolings', 'mean', *half])
    printed = capsys.readouterr().out
    assert '9 of 18 training images are used' in printed
    assert '| features' in printed and 'Best on validation: knn of level' in printed


def test_checkpoints_of_vits_have_class_tokens(photos, tmp_path):
    write_checkpoint(tmp_path / 'vit.pth', ENCODERS['ViT'])
    result = evaluate(tmp_path / 'vit.pth', photos, probes=['knn', 'rank'])
    assert {row.features for row in result.rows} == {
        f'level1.{name}' for name in ('mean', 'max', 'gem', 'class', 'prefix')
    }


def test_a_fraction_of_the_training_images_is_that_of_fine_tuning(run, photos):
    whole, half = read_set(photos), keep_fraction(read_set(photos), 0.5, seed=3)
    dataset = LabeledDataset(photos, [], split='train', label_fraction=0.5, label_seed=3)
    kept = [half.images[row] for row in half.splits['train']]
    assert kept == [photos / dataset.names[i] for i in range(len(dataset))] and len(kept) == 9
    assert [half.strata[row] for row in half.splits['train']] == [path.parent.name for path in kept]
    for split in ('val', 'test'):
        images = [whole.images[row] for row in whole.splits[split]]
        assert [half.images[row] for row in half.splits[split]] == images
    assert {*kept} < {half.images[row] for row in keep_fraction(whole, 0.9, seed=3).splits['train']}
    assert half.names != keep_fraction(whole, 0.5, seed=4).names
    result = evaluate(run, photos, probes=['knn'], poolings=['mean'], label_fraction=0.5, seed=3)
    assert result.images['train'] == 9 and '9 of 18 training images are used' in result.format()
    with pytest.raises(UserError, match='label_fraction=0 must be a fraction of the images'):
        evaluate(run, photos, probes=['knn'], label_fraction=0)


def test_a_fraction_of_images_with_masks_keeps_their_masks():
    half = keep_fraction(read_set(NUCLEI), 0.5, seed=0)
    whole = read_set(NUCLEI)
    assert len(half.splits['train']) == round(len(whole.splits['train']) / 2)
    assert {image.stem: mask for image, mask in zip(half.images, half.masks, strict=True)}.items() <= {
        image.stem: mask for image, mask in zip(whole.images, whole.masks, strict=True)
    }.items()
