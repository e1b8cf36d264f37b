"""What labels a watch takes, and what it measures by them at every level, against the probes and scikit-learn."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image
from sklearn.metrics import jaccard_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.preprocessing import StandardScaler, normalize

import mae_toolkit
from mae_toolkit.apis.pretraining import _check_labels
from mae_toolkit.engine.watch_record import WatchRecord, read_watch
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import quality
from mae_toolkit.evaluation.labeled_images import load_labeled_images, read_labeled_set
from mae_toolkit.evaluation.probes.data import Part, ProbeData, hold_out
from mae_toolkit.evaluation.probes.dense import run_dense_knn, segment_by_neighbors
from mae_toolkit.evaluation.quality import measure_labeled
from mae_toolkit.visualization import read_scalars
from small_cnn import make_model
from test_watch import WATCH, runner

NUCLEI = Path(mae_toolkit.__file__).parent / 'data/tiny/dsb2018'


def write_images(folder, counts):
    """Images by folder, the class of each by its brightness."""
    for number, (name, count) in enumerate(counts.items()):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            Image.new('RGB', (40, 36), (60 * number, 60 * number, 9 * i)).save(folder / name / f'{i}.png')
    return folder


def count(labeled):
    return {name: len(rows) for name, rows in labeled.splits.items()}


def test_validation_images_are_compared_and_test_images_only_where_there_are_no_others(tmp_path):
    three = write_images(
        tmp_path / 'three', {f'{s}/{c}': n for s, n in (('train', 4), ('val', 2), ('test', 1)) for c in 'ab'}
    )
    labeled = read_labeled_set(three)
    assert count(labeled) == {'train': 8, 'test': 4}
    assert {labeled.images[row].parts[-3] for row in labeled.splits['test']} == {'val'}
    shutil.rmtree(three / 'val')
    assert count(read_labeled_set(three)) == {'train': 8, 'test': 2}
    shutil.rmtree(three / 'test')
    (three / 'train').rename(tmp_path / 'plain')
    assert count(read_labeled_set(tmp_path / 'plain')) == {'train': 6, 'test': 2}


def test_the_only_image_of_a_class_is_not_asked_for(tmp_path):
    labeled = read_labeled_set(write_images(tmp_path, {'a': 3, 'b': 1, 'c': 4}))  # the fourth and the eighth
    assert [labeled.strata[row] for row in labeled.splits['test']] == ['c']
    assert {labeled.strata[row] for row in labeled.splits['train']} == set('abc')
    (tmp_path / 'alone').mkdir()
    for name in 'abc':  # the same of a training split alone
        (tmp_path / name).rename(tmp_path / 'alone' / name)
    (tmp_path / 'alone').rename(tmp_path / 'train')
    again = read_labeled_set(tmp_path)
    assert [again.images[row].name for row in again.splits['test']] == [labeled.images[labeled.splits['test'][0]].name]
    with pytest.raises(UserError, match='has 4 labeled images, and none has another of its class'):
        read_labeled_set(write_images(tmp_path / 'single', dict.fromkeys('abcd', 1)))


def test_a_table_of_files_and_classes_is_taken(tmp_path):
    write_images(tmp_path, {'x': 8})
    rows = [f'x/{i}.png,{"even" if i % 2 == 0 else "odd"},{"val" if i > 5 else "train"}' for i in range(8)]
    (tmp_path / 'labels.csv').write_text('\n'.join(['file,label,split', *rows]))
    images = load_labeled_images(tmp_path / 'labels.csv', (32, 32), 3, 100)
    assert images.train[0]['labels'].tolist() == [0, 1] * 3 and images.test[0]['labels'].tolist() == [0, 1]


def test_masks_are_loaded_beside_whole_images():
    images = load_labeled_images(NUCLEI, (32, 48), 3, 5)
    assert images.has_masks and images.classes == 2
    (train,), (test,) = images.train, images.test
    assert train['imgs'].shape == (5, 3, 32, 48) and test['labels'].shape == (5, 32, 48)
    name = train['names'][2].replace('.jpg', '.png')
    assert train['names'][2].removesuffix('.jpg') in (NUCLEI / 'splits/train.txt').read_text()
    assert test['names'][2].removesuffix('.jpg') in (NUCLEI / 'splits/val.txt').read_text()
    mask = Image.open(NUCLEI / 'semantic' / name).resize((48, 32), Image.Resampling.NEAREST)
    assert np.array_equal(train['labels'][2].numpy(), np.array(mask) > 0)
    image = Image.open(NUCLEI / 'images' / train['names'][2]).convert('RGB').resize((48, 32), Image.Resampling.BICUBIC)
    assert np.abs(train['imgs'][2].movedim(0, -1).numpy() - np.array(image, float)).mean() < 5


def test_mistakes_in_labels_are_refused(tmp_path):
    with pytest.raises(UserError, match='There is no folder .*none'):
        read_labeled_set(tmp_path / 'none')
    with pytest.raises(UserError, match='the classes a: two or more'):
        read_labeled_set(write_images(tmp_path / 'one', {'a': 5}))
    with pytest.raises(UserError, match='has 3 labeled images: 4 or more'):
        read_labeled_set(write_images(tmp_path / 'few', {'a': 2, 'b': 1}))
    folder = write_images(tmp_path / 'broken', {'a': 3, 'b': 3})
    (folder / 'a/1.png').write_bytes(b'no image')
    with pytest.raises(UserError, match=r'broken/a/1\.png of the labeled images cannot be read \(.*\): remove it'):
        load_labeled_images(folder, (32, 32), 3, 100)
    with pytest.raises(UserError, match='1 of the 6 images'):
        _check_labels(folder)
    assert _check_labels(NUCLEI) == str(NUCLEI)


def patches(count, seed):
    """Maps whose positions are of the class of their greatest channel, and their masks of 2 x 2 pixels per position."""
    generator = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, 3, 4, 4, generator=generator)
    labels = (maps + 0.8 * torch.randn(maps.shape, generator=generator)).argmax(1)
    return Part(maps, labels.repeat_interleave(2, 1).repeat_interleave(2, 2).short())


def test_segmentation_by_neighbors_is_that_of_scikit_learn_and_of_the_probe():
    train, test = patches(12, 0), patches(6, 1)
    found = segment_by_neighbors(train, test, 3, 5)

    def flatten(part):
        return part.features.movedim(1, -1).reshape(-1, 3).numpy(), part.labels[:, ::2, ::2].flatten().numpy()

    (x, y), (asked, truth) = flatten(train), flatten(test)
    scale = StandardScaler().fit(x)
    model = KNeighborsClassifier(5, metric='cosine', algorithm='brute').fit(normalize(scale.transform(x)), y)
    predicted = model.predict(normalize(scale.transform(asked)))
    assert 0.2 < found['miou'] < 0.9
    assert found['miou'] == pytest.approx(jaccard_score(truth, predicted, average='macro'), abs=1e-6)
    assert found['pixel_accuracy'] == pytest.approx((truth == predicted).mean(), abs=1e-6)
    data = ProbeData(train, test, test, 3, hold_out([0] * 12, 0))
    assert run_dense_knn(data, neighbors=[5]).test == found
    ignored = Part(train.features, torch.full_like(train.labels, -1))
    with pytest.raises(UserError, match='No patch of 12 masks'):
        segment_by_neighbors(ignored, test, 3, 5)


def test_every_level_is_measured_by_classes(tmp_path):
    write_images(tmp_path, {'a': 8, 'b': 8, 'c': 8})
    model, images = make_model(), load_labeled_images(tmp_path, (32, 32), 3, 100)
    values = measure_labeled(model, images)
    names = ['knn', 'knn_level1', 'knn_level2', 'knn_level3', 'effective_rank', 'patch_effective_rank']
    assert list(values) == names and values['knn'] == values['knn_level3']
    inner = model.encoder.forward
    model.encoder.forward = lambda imgs: (torch.zeros_like(inner(imgs)[0]), *inner(imgs)[1:])
    blind = measure_labeled(model, images)
    assert blind['knn_level1'] == pytest.approx(100 / 3) != values['knn_level1'] and blind['knn'] == values['knn']
    model.encoder.forward = lambda imgs: inner(imgs)[-1:]
    assert list(measure_labeled(model, images)) == ['knn', *names[-2:]]  # a single level


def test_every_level_is_measured_by_masks(monkeypatch):
    monkeypatch.setattr(quality, 'POSITIONS', 5)
    monkeypatch.setattr(quality, 'NEIGHBORS', 1)
    torch.manual_seed(0)
    model, images = make_model().eval(), load_labeled_images(NUCLEI, (48, 48), 3, 12)
    values = measure_labeled(model, images)
    assert values['patch_knn_miou'] == values['patch_knn_miou_level3']  # 6 x 6 positions are fine enough
    (train,), (test,) = images.train, images.test
    with torch.no_grad():
        maps = [model.encoder(model.data_preprocessor(batch, False)['imgs'])[1] for batch in (train, test)]
    small = [torch.nn.functional.adaptive_avg_pool2d(x, 5) for x in maps]
    parts = [Part(x, batch['labels']) for x, batch in zip(small, (train, test), strict=True)]
    expected = run_dense_knn(ProbeData(*parts, parts[1], 2, hold_out([0] * 12, 0)), [quality.NEIGHBORS]).test['miou']
    assert values['patch_knn_miou_level2'] == pytest.approx(100 * expected)
    assert measure_labeled(model, images) == values
    encode = model.encoder.forward
    model.encoder.forward = lambda imgs: [x.float() for x in torch.autocast('cpu', enabled=False)(encode)(imgs)]
    with torch.autocast('cpu', torch.bfloat16):
        assert measure_labeled(model, images) == values  # whatever precision the encoder trains in


def test_a_run_is_watched_by_masks(tmp_path):
    runner(tmp_path / 'a', hooks=[WATCH | {'labels': str(NUCLEI)}], epochs=1).train()
    record = read_watch(tmp_path / 'a')
    assert record.measure == 'patch_knn_miou' and record.images == 8 and record.levels == [1, 2, 3]
    assert 0 < record.rows[0]['patch_knn_miou'] < 100
    scalars = read_scalars(tmp_path / 'a')
    assert scalars['watch/patch_knn_miou_level1'].keys() == {row['step'] for row in record.rows}
    assert Image.open(tmp_path / 'a/watch.png').size == (700, 400)


def test_the_hook_of_the_documents(tmp_path):
    text = (Path(__file__).parents[1] / 'docs/evaluation.md').read_text()
    (line,) = [line for line in text.splitlines() if line.startswith('default_hooks = dict(watch=')]
    config = Config.fromstring(line, '.py').default_hooks.watch.to_dict()
    assert config.pop('labels') == 'photos/labeled'
    runner(tmp_path / 'a', hooks=[config | {'labels': str(NUCLEI), 'images': 4, 'interval': 2}], epochs=2).train()
    assert [row['step'] for row in read_watch(tmp_path / 'a').rows] == [0, 1, 12]


def test_the_table_and_the_sentence_name_the_best_level():
    record = WatchRecord('knn', 100, 1000, 100)
    ranks = {'effective_rank': 9.0, 'patch_effective_rank': 9.0}
    for step, values in ((0, (30.0, 35.0, 40.0)), (100, (70.0, float('nan'), 50.0))):
        record.add(step, {'knn': values[-1]} | {f'knn_level{i}': v for i, v in enumerate(values, 1)} | ranks)
    assert [record.find_best_level(row) for row in record.rows] == [(40.0, 3), (70.0, 1)]
    assert record.describe() == 'kNN % 40.0 at step 0, 50.0 at step 100; by level 1 of 3, 30.0 and 70.0'
    head, first, last = record.make_table()
    assert head.endswith('of best level') and first.endswith('40.0 (level 3)') and '70.0 (level 1) best' in last
    record.rows.pop()
    assert 'by level' not in record.describe()
