"""Trainings on shards: resumed with another number of processes and workers, they see the same images, each once."""

import pytest
from mmengine.hooks import Hook

from engine_toys import make_runner
from mae_toolkit.apis import load_config
from mae_toolkit.apis.browsing import browse
from mae_toolkit.apis.pretraining import pretrain
from mae_toolkit.datasets import ShardDataset, ShardSampler
from mae_toolkit.datasets.checks import check_data
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS
from shard_sets import make_tars, write_tar
from test_distributed import run_pair
from tiny import QUICKSTART, ROOT

EPOCHS, STOP = 2, 3


@HOOKS.register_module(force=True)
class SeeNamesHook(Hook):
    """Keep the names of the images of each step, and stop where asked."""

    def __init__(self, seen, stop=None):
        self.seen, self.stop = seen, stop

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.stop:
            raise InterruptedError
        self.seen[runner.iter] = list(data_batch['names'])


def train(shards, work, batch, workers=0, stop=None, dataset=None, **kwargs):
    """{step: names of its images} of a training of this process."""
    seen = {}
    crop = [{'type': 'RandomCrop', 'size': 8}]
    loader = {
        'batch_size': batch,
        'num_workers': workers,
        'dataset': {'type': 'ShardDataset', 'urls': str(shards), 'channels': 1, 'pipeline': crop} | (dataset or {}),
        'sampler': {'type': 'ShardSampler', 'streams': 4, 'window': 1},
        'collate_fn': {'type': 'mae_toolkit.image_collate'},
    }
    hooks = [{'type': 'SeeNamesHook', 'seen': seen, 'stop': stop}]
    checkpoint = {'interval': 1, 'by_epoch': False, 'max_keep_ckpts': 2}
    runner = make_runner(work, hooks, EPOCHS, checkpoint, train_dataloader=loader, **kwargs)
    try:
        runner.train()
    except InterruptedError:
        assert stop is not None
    return seen


def train_half(rank, folder):
    return train(folder / 'shards', folder / 'run', batch=2, stop=STOP, launcher='pytorch')


@pytest.mark.process
def test_a_run_of_two_processes_goes_on_in_one_with_other_workers(tmp_path):
    make_tars(tmp_path / 'shards')
    whole = train(tmp_path / 'shards', tmp_path / 'whole', batch=4)
    assert list(whole) == list(range(10))
    for first in (0, 5):
        names = [name for step in range(first, first + 5) for name in whole[step]]
        assert len(names) == len(set(names)) == 18
    first, second = run_pair(train_half, tmp_path)
    rest = train(tmp_path / 'shards', tmp_path / 'run', batch=4, workers=2, resume='auto')
    assert list(first) == list(second) == [0, 1, 2] and list(rest) == list(range(3, 10))
    for step, names in whole.items():
        seen = rest[step] if step >= STOP else first[step] + second[step]
        assert sorted(seen) == sorted(names), step


def test_the_check_of_the_data_names_damaged_shards(tmp_path):
    path = make_tars(tmp_path, (6,))[0]
    write_tar(tmp_path / 'a.tar', [('1.cls', b'0'), ('2.png', b'x')])
    path.write_bytes(path.read_bytes()[:3000])
    cfg = dict(train_dataloader=dict(dataset=dict(type='ShardDataset', urls=str(tmp_path), pipeline=[])))
    report = check_data(cfg, ['train'])
    (split,) = report.splits
    assert split.images == 3 and not report.errors()
    said = ' '.join(report.warnings())
    assert 'train-0000.tar ' in said and 'what followed is lost; 2 images are used' in said
    assert 'a.tar has 1 sample without an image (1)' in said
    cfg['train_dataloader']['dataset']['urls'] = f'{tmp_path}/b.tar'
    assert 'no shard' in check_data(cfg, ['train']).errors()[0]


@pytest.mark.parametrize('config', ['vit', 'convnextv2'])
def test_configs_for_own_images_take_shards(tmp_path, config):
    make_tars(tmp_path)
    cfg = load_config(ROOT / 'configs' / 'pretrain' / 'custom' / f'{config}.py', {'shards': str(tmp_path), 'size': 64})
    shown = browse(cfg, held_out=False, rows=2, columns=2)
    assert shown.images == 17 and not shown.broken
    assert browse(cfg, held_out=True, rows=2, columns=1).images == 1
    assert cfg.train_dataloader.sampler.type == 'ShardSampler' and cfg.val_dataloader.sampler.type == 'EpochSampler'


def test_pretraining_by_one_command_says_what_takes_shards(tmp_path):
    make_tars(tmp_path / 'shards')
    with pytest.raises(UserError, match=r'holds shards.*shards=FOLDER'):
        pretrain(tmp_path / 'shards', 'convnextv2_atto', tmp_path / 'out')


def test_the_config_of_the_page(tmp_path):
    """A shipped recipe on shards, in a file of a few lines."""
    make_tars(tmp_path / 'shards')
    text = (ROOT / 'docs' / 'clusters.md').read_text().partition('## Data in shards')[2]
    text = text.partition('```python\n')[2].partition('```')[0]
    assert "type='ShardSampler'" in text
    text = text.replace('configs/', f'{ROOT}/configs/').replace('data/imagenet_shards', str(tmp_path / 'shards'))
    (tmp_path / 'config.py').write_text(text)
    loader = load_config(tmp_path / 'config.py').train_dataloader
    dataset = {key: value for key, value in loader.dataset.items() if key != 'type'}
    assert len(ShardDataset(**dataset)) == 18 and len(loader.dataset.pipeline) == 2
    assert isinstance(ShardSampler(ShardDataset(**dataset), shuffle=loader.sampler.shuffle), ShardSampler)
    assert QUICKSTART  # the recipes of which are not changed by it
