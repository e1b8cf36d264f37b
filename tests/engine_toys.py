"""A model, images and a runner so small that whole runs take a second."""

import itertools
import os
import signal

import torch
from mmengine.hooks import Hook
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import nn

from mae_toolkit.engine import Runner
from mae_toolkit.registry import DATA_SAMPLERS, HOOKS, MODELS

SIZE, IMAGES, BATCH = 8, 12, 2
NUMBERS = itertools.count()  # MMEngine's runners of one name and second share a logger


@MODELS.register_module(force=True)
class ToyPreprocessor(BaseDataPreprocessor):
    def forward(self, data, training=False):
        return {'imgs': self.cast_data(data['imgs']).float() / 255}


class ToyMasking(nn.Module):
    def forward(self, imgs):
        score = torch.rand(len(imgs), 4, device=imgs.device)
        hidden = score.argsort(1)[:, :3]
        mask = torch.zeros(len(imgs), 4, dtype=torch.bool, device=imgs.device).scatter(1, hidden, True)
        return mask.view(-1, 1, 2, 2)


class ToyEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.pos_embed = nn.Parameter(torch.zeros(1, 4, 8))
        self.frozen = nn.Parameter(torch.ones(3), requires_grad=False)
        self.proj = nn.Linear(16, 8)
        self.norm = nn.LayerNorm(8)
        self.drop = nn.Dropout(0.1)

    def encode(self, patches):
        return self.drop(self.norm(self.proj(patches) + self.pos_embed))


class ToyDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.mask_token = nn.Parameter(torch.zeros(8))
        self.proj = nn.Linear(8, 16)

    def forward(self, tokens):
        return self.proj(tokens)


@MODELS.register_module(force=True)
class ToyAutoencoder(BaseModel):
    def __init__(self, drop=0.1, data_preprocessor=None):
        super().__init__(data_preprocessor or ToyPreprocessor())
        self.encoder, self.decoder, self.masking = ToyEncoder(), ToyDecoder(), ToyMasking()
        self.encoder.drop.p = drop

    def forward(self, imgs, mask=None, mode='tensor'):
        hidden = (self.masking(imgs) if mask is None else mask).flatten(1)[..., None]  # (B, 4, 1)
        patches = torch.nn.functional.unfold(imgs, 4, stride=4).mT  # (B, 4, 16)
        tokens = torch.where(hidden, self.decoder.mask_token, self.encoder.encode(patches * ~hidden))
        tokens = tokens + tokens.mean(1, keepdim=True)  # what is visible tells something about what is hidden
        error = (self.decoder(tokens) - patches).square().mean(-1, keepdim=True)
        return {'loss_pixel': (error * hidden).sum() / hidden.sum()}


class ToyImages(torch.utils.data.Dataset):
    """Image ``index`` is noise of its own; one is not a number, and some are broken, if told so."""

    metainfo = {}

    def __init__(self, images=IMAGES, nan=(), broken=(), shape=(1, SIZE, SIZE)):
        self.images, self.nan, self.broken, self.shape = images, nan, broken, shape

    def __len__(self):
        return self.images

    def __getitem__(self, key):
        index = key[1] if isinstance(key, tuple) else key
        img = torch.randint(256, self.shape, generator=torch.Generator().manual_seed(index)).float()
        return {'img': img * (float('nan') if index in self.nan else 1), 'name': f'{index}.png'}

    def collate(self, samples):
        replaced = [int(s['name'][:-4]) in self.broken for s in samples]
        broken = [(s['name'], 'truncated') for s, other in zip(samples, replaced, strict=True) if other]
        names = [s['name'] for s in samples]
        return {
            'imgs': torch.stack([s['img'] for s in samples]),
            'names': names,
            'replaced': replaced,
            'broken': broken,
        }


@DATA_SAMPLERS.register_module(force=True)
class ToySampler(torch.utils.data.Sampler):
    """Shuffles by seed and epoch, the same for any number of processes; process r takes blocks of a global batch."""

    def __init__(self, dataset, seed=0, batch=BATCH):
        self.images, self.batch, self.epoch, self.start = len(dataset), batch, 0, 0
        self.rank = int(os.environ.get('RANK', 0))
        self.world = int(os.environ.get('WORLD_SIZE', 1))

    def set_epoch(self, epoch):
        self.epoch = epoch

    def set_start(self, start):
        self.start = start

    def __len__(self):
        return self.images // self.world

    def __iter__(self):
        order = torch.randperm(self.images, generator=torch.Generator().manual_seed(self.epoch))
        mine = order.view(-1, self.world, self.batch)[:, self.rank].flatten().tolist()
        return iter(mine[self.start :])


@HOOKS.register_module(force=True)
class KillHook(Hook):
    """Ends the process without any farewell before the given iteration."""

    priority = 'LOWEST'

    def __init__(self, at):
        self.at = at

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            os.kill(os.getpid(), signal.SIGKILL)


def loader(images=None, batch=BATCH, **kwargs):
    images = images or ToyImages()
    sampler = {'type': 'ToySampler', 'batch': batch}
    kwargs = {'sampler': sampler, 'num_workers': 0} | kwargs
    return {'dataset': images, 'batch_size': batch, 'collate_fn': images.collate, **kwargs}


def val_loader(batch=BATCH, **kwargs):
    return loader(batch=batch, sampler={'type': 'DefaultSampler', 'shuffle': False, 'round_up': False}, **kwargs)


def make_runner(work_dir, hooks=(), epochs=2, checkpoint=None, wrapper=None, **kwargs):
    """A runner over ToyImages: 6 iterations per epoch."""
    optimizer = {'type': 'AdamW', 'lr': 1e-2, 'weight_decay': 0.05}
    wrapper = {'type': 'OptimWrapper', 'optimizer': optimizer, 'constructor': 'GroupedOptimWrapperConstructor'} | (
        wrapper or {}
    )
    checkpoint = {'type': 'SafeCheckpointHook', 'interval': 1} | (checkpoint or {})
    given = {
        'model': {'type': 'ToyAutoencoder'},
        'work_dir': str(work_dir),
        'train_dataloader': loader(),
        'train_cfg': {'type': 'EpochTrainLoop', 'max_epochs': epochs},
        'optim_wrapper': wrapper,
        'param_scheduler': [
            {'type': 'CosineAnnealingLR', 'T_max': 20, 'by_epoch': False},
            {'type': 'StepLR', 'step_size': 1, 'gamma': 0.9},
        ],
        'default_hooks': {'checkpoint': checkpoint, 'logger': {'type': 'LoggerHook', 'interval': 1}},
        'custom_hooks': [{'type': 'IterationSeedHook'}, *hooks],
        'default_scope': 'mae_toolkit',
        'randomness': {'seed': 1},
        'experiment_name': f'toy_{next(NUMBERS)}',
    }
    return Runner(**given | kwargs)


def train(work_dir, resume=False, kill_at=-1, interval=5, workers=0):
    """Three epochs of 6 iterations, in a process of its own, which is killed before iteration ``kill_at``."""
    torch.set_num_threads(1)
    make_runner(
        work_dir,
        hooks=[{'type': 'KillHook', 'at': kill_at}, {'type': 'EMAHook'}],
        epochs=3,
        checkpoint={'interval': interval, 'by_epoch': False, 'max_keep_ckpts': 2},
        resume=resume,
        train_dataloader=loader(num_workers=workers),
    ).train()
