"""A share of the labels: the same images for every run, in detection, segmentation and classification."""

import json
import pickle

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.registry import DATASETS as ROOT
from mmengine.registry import DefaultScope
from mmengine.runner import Runner

from mae_toolkit.apis import load_config, set_label_fraction
from mae_toolkit.datasets import SubsetByFraction
from mae_toolkit.engine.data_loading import add_seed
from mae_toolkit.errors import UserError
from mae_toolkit.registry import DATASETS


@ROOT.register_module()
class ShareToy(BaseDataset):
    """As many images as it is told, of which every fifth is filtered out."""

    METAINFO = {'classes': ('a', 'b')}

    def __init__(self, number=100, **kwargs):
        self.number = number
        super().__init__(**kwargs)

    def load_data_list(self):
        return [{'img_id': i} for i in range(self.number)]

    def filter_data(self):
        return [item for item in self.data_list if item['img_id'] % 5]

    def get_cat_ids(self, idx):
        return [self.get_data_info(idx)['img_id'] % 2]


def share(value, seed=0, **toy):
    return SubsetByFraction({'type': 'ShareToy', **toy}, value, seed)


def ids(dataset):
    return [dataset[i]['img_id'] for i in range(len(dataset))]


@pytest.mark.slow
@pytest.mark.parametrize('serialize', [True, False])
def test_a_larger_share_holds_the_smaller_and_the_seed_alone_chooses(serialize):
    toy = {'serialize_data': serialize}
    few, some, many = (ids(share(value, **toy)) for value in (0.001, 0.1, 0.5))
    assert [len(few), len(some), len(many)] == [1, 8, 40]  # of the 80 that are not filtered out
    assert set(few) < set(some) < set(many) and not any(i % 5 == 0 for i in many)
    assert some == sorted(some) == ids(share(0.1, **toy))
    np.random.seed(3)
    assert ids(share(0.1, **toy)) == some
    assert len({tuple(ids(share(0.1, seed, **toy))) for seed in range(4)}) == 4
    assert len(share(1.0, **toy)) == 80


def test_it_is_a_dataset_of_mmengines_kind_that_workers_can_be_given():
    dataset = pickle.loads(pickle.dumps(share(0.1, lazy_init=True)))
    dataset.full_init()
    assert dataset.metainfo['classes'] == ('a', 'b')
    for i in range(len(dataset)):
        assert dataset.get_data_info(i)['img_id'] == dataset[i]['img_id'] == ids(dataset)[i]
        assert dataset.get_cat_ids(i) == [dataset[i]['img_id'] % 2]
    within = {'type': 'mae_toolkit.SubsetByFraction', 'fraction': 0.1, 'dataset': {'type': 'ShareToy'}}
    repeated = DATASETS.build({'type': 'RepeatDataset', 'times': 3, 'dataset': within})
    assert ids(repeated) == 3 * ids(dataset) and repeated.get_data_info(8) == dataset.get_data_info(0)


def test_the_seed_of_the_run_does_not_choose():
    cfg = {'type': 'mae_toolkit.SubsetByFraction', 'fraction': 0.1, 'dataset': {'type': 'ShareToy'}}
    assert add_seed(cfg, 7) == cfg
    assert add_seed({'type': 'LabeledDataset', 'data_root': '.'}, 7)['seed'] == 7  # which is of its augmentations


def test_one_that_is_built_already_is_cut():
    dataset = ShareToy()
    assert ids(SubsetByFraction(dataset, 0.1)) == ids(dataset) == ids(share(0.1))


@pytest.mark.parametrize(
    ('make', 'sentence'),
    [
        (lambda: share(0), 'fraction=0 must be a fraction'),
        (lambda: share(1.5), 'fraction=1.5 must be a fraction'),
        (lambda: share('10%'), "fraction='10%' must be a fraction"),
        (lambda: share(True), 'fraction=True must be a fraction'),
        (lambda: share(float('nan')), 'fraction=nan must be a fraction'),
        (lambda: share(0.5, -1), 'seed=-1 must be a whole number'),
        (lambda: SubsetByFraction([1, 2], 0.5), 'SubsetByFraction cannot cut a list: put it around the inner dataset'),
        (lambda: set_label_fraction(Config({}), 10), 'fraction=10 must be a fraction'),
    ],
)
def test_refusals(make, sentence):
    with pytest.raises(UserError, match=sentence):
        make()


def loader(cfg):
    return cfg.train_dataloader.dataset.to_dict()


def config(dataset, **train_cfg):
    return Config({'train_dataloader': {'dataset': dataset}, 'train_cfg': train_cfg})


def test_a_config_gets_a_share():
    toy = {'type': 'ShareToy'}
    cut = {'type': 'mae_toolkit.SubsetByFraction', 'dataset': toy, 'fraction': 0.1, 'seed': 3}
    cfg = config(toy, max_iters=5)
    assert loader(set_label_fraction(cfg, 0.1, 3)) == cut and loader(cfg) == toy
    assert loader(set_label_fraction(cfg, 1.0)) == toy
    again = set_label_fraction(set_label_fraction(cfg, 0.5), 0.1, 3)
    assert loader(again) == cut
    mixed = config({'type': 'MultiImageMixDataset', 'dataset': toy}, max_iters=5)
    assert loader(set_label_fraction(mixed, 0.1, 3)) == {'type': 'MultiImageMixDataset', 'dataset': cut}
    both = config({'type': 'ConcatDataset', 'datasets': [toy, toy]}, max_iters=5)
    assert loader(set_label_fraction(both, 0.1, 3)) == {'type': 'ConcatDataset', 'datasets': [cut, cut]}


def test_an_epoch_keeps_its_steps():
    toy = {'type': 'ShareToy'}
    repeated = loader(set_label_fraction(config(toy, max_epochs=5), 0.1))
    assert repeated['type'] == 'RepeatDataset' and len(DATASETS.build(repeated)) == 80
    labeled = config({'type': 'LabeledDataset', 'data_root': 'x', 'repeat': 2}, max_epochs=5)
    assert loader(set_label_fraction(labeled, 0.1, 3)) == {
        'type': 'LabeledDataset',
        'data_root': 'x',
        'label_fraction': 0.1,
        'label_seed': 3,
        'repeat': 20,
    }


@pytest.mark.process
def test_a_set_of_mmdetection_is_cut_and_goes_through_its_loader(root, monkeypatch):
    """Its sampler and a worker; what is filtered out is not counted."""
    pytest.importorskip('mmdet', reason='MMDetection is not installed: pip install -e .[det]')
    monkeypatch.chdir(root)
    cfg = load_config(root / 'configs' / 'detection' / 'faster-rcnn_convnextv2-a_500s_bccd.py')
    within = {'data_root': 'mae_toolkit/data/tiny/bccd/', 'filter_cfg': {'min_size': 32}}
    cfg.merge_from_dict({'train_dataloader': {'batch_size': 2, 'dataset': within}})
    cfg = set_label_fraction(cfg, 0.1)
    with DefaultScope.overwrite_default_scope('mmdet'):
        loader = Runner.build_dataloader(cfg.train_dataloader, seed=0)
    dataset = loader.dataset
    listed = json.loads((root / 'mae_toolkit/data/tiny/bccd/annotations/train.json').read_text())['images']
    assert len(dataset) == round(0.1 * len(listed)) and dataset.metainfo['classes'] == ('RBC', 'WBC', 'Platelets')
    kept = {dataset.get_data_info(i)['img_id'] for i in range(len(dataset))}
    seen = [sample.img_id for _, batch in zip(range(6), loader) for sample in batch['data_samples']]
    assert len(seen) == 12 and set(seen) == kept


def test_a_set_of_mmsegmentation_is_cut(tmp_path):
    pytest.importorskip('mmseg', reason='MMSegmentation is not installed: pip install -e .[seg]')
    for folder in ('img', 'seg'):
        (tmp_path / folder).mkdir()
        for i in range(20):
            (tmp_path / folder / f'{i:02}.png').write_bytes(b'')
    prefix = {'img_path': 'img', 'seg_map_path': 'seg'}
    within = {'type': 'BaseSegDataset', 'data_root': str(tmp_path), 'data_prefix': prefix, 'pipeline': []}
    within |= {'img_suffix': '.png', 'metainfo': {'classes': ('a', 'b')}}
    with DefaultScope.overwrite_default_scope('mmseg'):
        from mmseg.registry import DATASETS as THEIRS

        dataset = THEIRS.build({'type': 'mae_toolkit.SubsetByFraction', 'fraction': 0.2, 'dataset': within})
    names = [dataset.get_data_info(i)['img_path'][-6:] for i in range(len(dataset))]
    assert len(names) == 4 and names == [dataset.get_data_info(i)['seg_map_path'][-6:] for i in range(4)]
