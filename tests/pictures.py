"""Pictures in a dataset of MMEngine's kind, and runs on them that take a second."""

import itertools
import random

import numpy as np
import torch
from mmengine.dataset import BaseDataset
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from PIL import Image
from torch.utils.data import BatchSampler

from mae_toolkit.datasets.reproducible import ReproducibleDataset
from mae_toolkit.engine import Runner
from mae_toolkit.registry import DATA_SAMPLERS, DATASETS, HOOKS, MODELS, TRANSFORMS

NUMBERS = itertools.count()
SAMPLES = 12


@TRANSFORMS.register_module(force=True)
class ReadFiles:
    """Read the image and the mask of a sample as Pillow does, with no look at whether a JPEG is whole."""

    def __call__(self, sample):
        for key in ('img_path', 'seg_map_path'):
            if key in sample:
                Image.open(sample[key]).size  # noqa: B018 - fails at files that are no pictures
        return sample


@TRANSFORMS.register_module(force=True)
class DrawNumbers:
    """Draw from all generators that pipelines draw from."""

    def __call__(self, sample):
        numbers = [random.random(), np.random.rand(), float(torch.rand(()))]
        return {
            'inputs': torch.tensor([*numbers, sample['sample_idx']], dtype=torch.float64),
            'path': sample['img_path'],
        }


@TRANSFORMS.register_module(force=True)
class FailAt:
    """A mistake in a user's own transform."""

    def __call__(self, sample):
        if sample['sample_idx'] == 2:
            raise KeyError('gt_boxes')
        return sample


@TRANSFORMS.register_module(force=True)
class Remember:
    """Keep earlier samples, as MMDetection's CachedMosaic does."""

    def __init__(self):
        self.results_cache = []

    def __call__(self, sample):
        return sample


@TRANSFORMS.register_module(force=True)
class LeaveOut:
    """Find nothing of use in the first sample, so that MMEngine takes another at random."""

    def __call__(self, sample):
        return None if sample['sample_idx'] == 0 else sample


@DATASETS.register_module(force=True)
class Pictures(BaseDataset):
    """Pictures of a folder, with masks where there are any."""

    METAINFO = {'classes': ('one', 'two')}

    def __init__(self, folder, transforms=('ReadFiles', 'DrawNumbers'), **kwargs):
        self.folder = folder
        pipeline = [{'type': f'mae_toolkit.{name}'} for name in transforms]
        super().__init__(pipeline=pipeline, serialize_data=False, **kwargs)

    def load_data_list(self):
        paths = sorted(self.folder.glob('*.[jp][pn]g'))
        masks = [path.parent / 'masks' / f'{path.stem}.png' for path in paths]
        return [
            {'img_path': str(path), 'width': 4 + i % 3, 'height': 5}
            | ({'seg_map_path': str(mask)} if mask.exists() else {})
            for i, (path, mask) in enumerate(zip(paths, masks, strict=True))
        ]


@DATA_SAMPLERS.register_module(force=True)
class WideOrTall(BatchSampler):
    """Batches of wide or of tall pictures, as MMDetection's AspectRatioBatchSampler makes them."""

    def __iter__(self):
        groups = {False: [], True: []}
        for index in self.sampler:
            info = self.sampler.dataset.get_data_info(index)
            group = groups[info['width'] < info['height']]
            group.append(index)
            if len(group) == self.batch_size:
                yield group[:]
                group.clear()
        left = groups[False] + groups[True]
        yield from (left[i : i + self.batch_size] for i in range(0, len(left), self.batch_size))


@MODELS.register_module(force=True)
class Collector(BaseModel):
    """Refuse what a batch should not have; the loss is the sum of what it has."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros((), dtype=torch.float64))

    def forward(self, inputs, path, mode='loss'):
        total = torch.stack(list(inputs)).sum()
        return {'loss': total * (1 + self.weight)} if mode == 'loss' else []


@HOOKS.register_module(force=True)
class CollectHook(Hook):
    """Keep what was drawn, and stop where asked."""

    def __init__(self, seen, stop=None):
        self.seen, self.stop = seen, stop

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.stop:
            raise InterruptedError
        self.seen[runner.iter] = [tuple(numbers.tolist()) for numbers in data_batch['inputs']]


def make_pictures(tmp_path):
    (tmp_path / 'data' / 'masks').mkdir(parents=True)
    noise = np.random.default_rng(0).integers(0, 255, (SAMPLES, 48, 48, 3), np.uint8)
    for i, pixels in enumerate(noise):
        Image.fromarray(pixels).save(tmp_path / 'data' / f'{i:02d}.jpg', quality=95)
    return tmp_path / 'data'


def cut(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def run(folder, work, resume=False, stop=None, loop=None, dataset=None, hook=None, seed=3, **loader):
    """{iteration: what its samples drew} of a run on the pictures."""
    seen = {}
    dataset = dataset or {'type': 'Pictures', 'folder': folder}
    loader = {'batch_size': 2, 'num_workers': 0, 'sampler': {'type': 'InfiniteSampler'}, 'dataset': dataset} | loader
    runner = Runner(
        model={'type': 'Collector'},
        work_dir=str(work),
        train_dataloader=loader,
        train_cfg=loop or {'type': 'IterBasedTrainLoop', 'max_iters': 15},
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.0}},
        default_hooks={
            'checkpoint': {'type': 'SafeCheckpointHook', 'interval': 1, 'by_epoch': False, 'max_keep_ckpts': 1},
            'broken_images': {'type': 'BrokenImagesHook', 'min_seen': 1000} | (hook or {}),
        },
        custom_hooks=[CollectHook(seen, stop)],
        default_scope='mae_toolkit',
        randomness={'seed': seed, 'diff_rank_seed': True},
        resume='auto' if resume else False,
        experiment_name=f'reproducible_{next(NUMBERS)}',
    )
    try:
        runner.train()
    except InterruptedError:
        assert stop is not None
    return seen


def wrapped(folder, transforms=('ReadFiles', 'DrawNumbers'), **kwargs):
    return ReproducibleDataset(Pictures(folder, transforms), **kwargs)
