"""Sets of images, nearest neighbors, and the comparison of configs."""

import json
import tarfile

import numpy as np
import pytest
import torch
from mmengine.config import Config
from PIL import Image

from mae_toolkit.datasets.archives import list_classes, list_training_images
from mae_toolkit.engine.runner_arguments import make_experiment_name
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import compute_knn_accuracy, extract_last_maps, extract_pooled_features
from mae_toolkit.models import ImagePreprocessor
from mae_toolkit.transfer.compare import Comparison, write_comparison
from parts import images, make_model
from tiny import QUICKSTART, refuse, run, run_here


def draw(path, seed=0, bright=False):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 60, (40, 40, 3), np.uint8)
    Image.fromarray(noise + 180 * bright).save(path)


@pytest.fixture
def sets(tmp_path):
    """Two sets: one with annotations, with templates, and one with folders of classes."""
    root = tmp_path / 'sets'
    for split, names in (('train', 'ab'), ('val', 'c')):
        listed = [{'id': i, 'file_name': f'{name}.png'} for i, name in enumerate(names)]
        (root / 'boxes/annotations').mkdir(parents=True, exist_ok=True)
        (root / f'boxes/annotations/{split}.json').write_text(json.dumps({'images': listed}))
        for name in names:
            draw(root / f'boxes/images/{name}.png')
    draw(root / 'boxes/templates/a.png')
    for split, count in (('train', 6), ('test', 3)):
        for i in range(count):
            draw(root / f'digits/{split}/dark/{i}.png', i)
            draw(root / f'digits/{split}/bright/{i}.png', i, bright=True)
    return root


def test_training_splits_of_all_sets(sets):
    names = list_training_images(sets, ('images', 'templates'))
    assert list_training_images(sets) == [name for name in names if 'templates' not in name]
    assert [name for name in names if name.startswith('boxes')] == [
        'boxes/images/a.png',
        'boxes/images/b.png',
        'boxes/templates/a.png',
    ]
    assert sum(name.startswith('digits/train') for name in names) == len(names) - 3 == 12
    assert list_classes(sets / 'digits', 'test') == ['bright'] * 3 + ['dark'] * 3
    with pytest.raises(UserError, match='annotations/train.json'):
        list_training_images(sets / 'digits' / 'train')
    with pytest.raises(UserError, match='1 folder'):
        list_classes(sets / 'boxes', 'images')


def test_sets_are_unpacked_and_listed(sets, tmp_path):
    with tarfile.open(tmp_path / 'digits.tar', 'w') as tar:
        tar.add(sets / 'digits', 'digits')
    run_here('unpack_archives', tmp_path / 'digits.tar', '--out', tmp_path / 'out', plain=True)
    assert len((tmp_path / 'out/train.txt').read_text().splitlines()) == 12
    for folders, count in ((['images'], 14), (['images', 'templates'], 15)):
        run_here('unpack_archives', '--out', sets, '--folders', *folders, plain=True)
        assert len((sets / 'train.txt').read_text().splitlines()) == count
    (tmp_path / 'broken.tar').write_bytes(b'no archive')
    assert 'broken.tar' in refuse('unpack_archives', tmp_path / 'broken.tar', '--out', tmp_path / 'out', plain=True)


def test_nearest_neighbors_vote_by_cosine():
    train = torch.tensor([[1.0, 0.0], [0.0, 2.0], [0.1, 3.0], [5.0, 0.2]])
    labels = torch.tensor([0, 1, 1, 0])
    test = torch.tensor([[0.3, 0.1], [0.2, 9.0], [1.0, 0.9]])
    assert compute_knn_accuracy(train, labels, test, torch.tensor([0, 1, 0]), k=2) == 1
    assert compute_knn_accuracy(train, labels, test, torch.tensor([1, 1, 0]), k=2) == pytest.approx(2 / 3)
    # one near neighbor outvotes two far ones, unless all votes count the same
    train, labels = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.1, 1.0]]), torch.tensor([0, 1, 1])
    near = torch.tensor([[1.0, 0.1]])
    assert compute_knn_accuracy(train, labels, near, torch.tensor([0]), k=3) == 1
    assert compute_knn_accuracy(train, labels, near, torch.tensor([1]), k=3, temperature=1e6) == 1
    with pytest.raises(UserError, match='0 training'):
        compute_knn_accuracy(train[:0], labels[:0], near, torch.tensor([0]))


def test_features_are_means_over_the_last_map():
    model = make_model(data_preprocessor=ImagePreprocessor())
    x = images(3) * 50 + 120
    pooled = extract_pooled_features(model, [{'imgs': x[:2]}, {'imgs': x[2:]}])
    assert model.training
    model.eval()
    expected = model.encoder(model.data_preprocessor({'imgs': x})['imgs'])[-1].mean((2, 3))
    torch.testing.assert_close(pooled, expected.detach())
    maps = extract_last_maps(model.train(), [{'imgs': x[:2]}, {'imgs': x[2:]}])
    torch.testing.assert_close(maps.mean((2, 3)), pooled)
    assert model.training


def test_results_of_before_attentive_probes_are_read(tmp_path):
    result = Comparison('a', (1.0, 0.5), (0.2, 0.3), 10.0, 2.0, 1.0, 5)
    result.write(tmp_path / 'result.json')
    content = json.loads((tmp_path / 'result.json').read_text())
    del content['attentive']
    (tmp_path / 'result.json').write_text(json.dumps(content))
    assert Comparison.read(tmp_path / 'result.json') == result
    assert write_comparison([result]).splitlines()[2].endswith('| 20.0, 30.0 |  |')


@pytest.mark.process
def test_configs_are_compared_and_nothing_is_done_twice(sets, tmp_path):
    arguments = (QUICKSTART, '--labels', sets / 'digits', '--minutes', '0.001', '--out', tmp_path / 'out')
    text = run('compare', *arguments)
    row = next(line for line in text.splitlines() if line.startswith('| quickstart'))
    assert (tmp_path / 'out/table.md').read_text() in text
    result = json.loads((tmp_path / 'out/quickstart/result.json').read_text())
    assert 0 < result['epochs'] < 2  # as many as fit into the time
    assert all(0 < loss < 10 for loss in result['loss'])  # how far it falls in such a short time is chance
    assert result['knn'][1] > 0.8  # dark and bright are told apart
    assert f'{100 * result["knn"][1]:.1f}' in row
    assert result['attentive'][1] > 0.8 and f'{100 * result["attentive"][1]:.1f} |' in row
    changed = (tmp_path / 'out/quickstart/result.json').stat().st_mtime_ns
    run('compare', *arguments)
    assert (tmp_path / 'out/quickstart/result.json').stat().st_mtime_ns == changed
    assert 'minutes 0.0' in refuse('compare', *arguments[:-3], '0.0', '--out', tmp_path / 'none')


def test_runs_of_one_second_have_names_of_their_own(tmp_path):
    """MMEngine knows loggers, logs and scopes by the run's name, to which it adds the second."""
    cfg = Config(filename=str(QUICKSTART))
    assert make_experiment_name(tmp_path / 'a', cfg).startswith('quickstart-')
    assert make_experiment_name(tmp_path / 'a', cfg) == make_experiment_name(tmp_path / 'b' / '..' / 'a', cfg)
    assert make_experiment_name(tmp_path / 'a', cfg) != make_experiment_name(tmp_path / 'b', cfg)
