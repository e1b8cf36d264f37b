"""The benchmark of the data pipeline runs and reports; how fast it is depends on the machine."""

import pytest
import torch
from PIL import Image

from mae_toolkit.benchmarks import data as benchmark
from mae_toolkit.benchmarks.data import benchmark_data, report
from mae_toolkit.benchmarks.data_formats import benchmark_formats
from mae_toolkit.errors import UserError
from tiny import QUICKSTART, run_here


@pytest.fixture
def cfg(root):
    """The images that come with the repository."""
    crop = dict(type='RandomResizedCrop', size=16)
    folder = str(root / 'mae_toolkit' / 'data' / 'tiny')
    return dict(type='ImageDataset', data_root=folder, ann_file='val.txt', pipeline=[crop, dict(type='RandomFlip')])


@pytest.mark.parametrize(('made', 'repeat'), [(None, 1), ((50, 30), 1), ((50, 30), 3)])
def test_rates_and_report(cfg, made, repeat, monkeypatch):
    cfg['repeat'] = repeat
    torch.set_num_threads(2)
    sizes = set()
    plain = benchmark._plain_pipeline

    def spied(dataset):
        sizes.update(Image.open(dataset.root / dataset.names[i]).size for i in range(len(dataset)))
        assert torch.get_num_threads() == 1
        return plain(dataset)

    monkeypatch.setattr(benchmark, '_plain_pipeline', spied)
    images = 4 if repeat == 1 else 30  # more than the 24 that there are
    result = benchmark_data(cfg, rounds=1, images=images, make_jpegs=made)
    assert result['ours'] > 0 and result['plain'] > 0 and result['images'] == images
    assert result['ratio'] == pytest.approx(result['ours'] / result['plain'])
    assert made is None or sizes == {made}
    assert torch.get_num_threads() == 2
    assert f'{result["ratio"]:.2f}' in report(result) and ('50 x 30' in report(result)) == bool(made)


def test_another_pipeline_is_refused(cfg):
    cfg['pipeline'] = [dict(type='CenterCrop', size=8)]
    torch.set_num_threads(2)
    with pytest.raises(UserError, match='RandomResizedCrop'):
        benchmark_data(cfg, rounds=1, images=2)
    assert torch.get_num_threads() == 2


def test_formats(cfg, tmp_path):
    pytest.importorskip('lmdb')
    found = benchmark_formats(cfg, ('folder', 'lmdb', 'wds'), rounds=1, images=6, make_jpegs=(50, 30))
    assert found['images'] == 6 and list(found['rates']) == ['folder', 'lmdb', 'wds']
    assert all(rate > 0 for rate in found['rates'].values())
    options = ('--formats', 'folder', 'wds', '--runs', 1, '--json', tmp_path / 'rates.json')
    text = run_here('benchmark', 'data', QUICKSTART, *options, plain=True)
    assert 'wds' in text and 'lmdb' not in text and 'the images as they are' in text
