"""A classifier of noise, metrics and a runner with a validation, so small that whole runs take a second."""

import os
import traceback

import torch
from mmengine.evaluator import BaseMetric, DumpResults
from mmengine.model import BaseDataPreprocessor, BaseModel
from torch import nn

from engine_toys import ToyImages, loader, make_runner
from mae_toolkit.registry import METRICS, MODELS

CLASSES = ('first', 'second', 'third')


@MODELS.register_module(force=True)
class LabelPreprocessor(BaseDataPreprocessor):
    def forward(self, data, training=False):
        return {'imgs': self.cast_data(data['imgs']).float() / 255, 'labels': data['labels']}


@MODELS.register_module(force=True)
class NoiseClassifier(BaseModel):
    """Has dropout, a batch norm, or another norm in its place, and a counter that is no buffer."""

    def __init__(self, norm=None, spatial=1, stays=False):
        super().__init__(LabelPreprocessor())
        self.conv = nn.Conv2d(1, 4, 4, stride=4)
        self.pool = nn.AdaptiveAvgPool2d(spatial)
        self.norm = norm or nn.BatchNorm2d(4)
        self.drop = nn.Dropout(0.3)
        self.head = nn.Linear(4, len(CLASSES))
        self.stays, self.steps = stays, 0

    def train(self, mode=True):
        super().train(mode)
        if self.stays:
            self.norm.eval()
        return self

    def forward(self, imgs, labels=None, mode='tensor'):
        self.steps += self.training
        scores = self.head(self.drop(self.norm(self.pool(self.conv(imgs)))).mean((2, 3)))
        if mode == 'predict':
            return list(scores.softmax(1))
        return {'loss': nn.functional.cross_entropy(scores, labels) + 0 * torch.rand(()) * self.steps}


class LabeledNoise(ToyImages):
    """Notes in which processes it was read."""

    metainfo = {'classes': CLASSES}

    def __init__(self, images=12, folder=None, **kwargs):
        super().__init__(images, **kwargs)
        self.folder = folder

    def __getitem__(self, key):
        if self.folder is not None:
            (self.folder / str(os.getpid())).touch()
        return super().__getitem__(key)

    def collate(self, samples):
        labels = torch.tensor([int(sample['name'][:-4]) % len(CLASSES) for sample in samples])
        return super().collate(samples) | {'labels': labels}


@METRICS.register_module(force=True)
class OwnMetric(BaseMetric):
    """Gives the numbers that it was made with, and those of the classes that it saw."""

    default_prefix = 'own'

    def __init__(self, numbers=None, by_class=False, raises='', **kwargs):
        super().__init__(**kwargs)
        self.numbers = {'score': 1.0} if numbers is None else numbers
        self.by_class, self.raises, self.history = by_class, raises, []

    def process(self, data_batch, data_samples):
        self.results += data_batch['labels'].tolist()
        self.history += data_batch['labels'].tolist()

    def compute_metrics(self, results):
        if self.raises:
            return {}[0] if self.raises == 'KeyError' else len(0)
        seen = {f'score_{CLASSES[label]}': 1.0 for label in set(results)} if self.by_class else {}
        return dict(self.numbers) | seen


@METRICS.register_module(force=True)
class OwnDump(DumpResults):
    """A user's metric that writes what was predicted."""


def make_validated(folder, evaluator=None, save_best=None, hooks=(), checked=True, rule='greater', **kwargs):
    """A runner that trains for two epochs of 6 iterations, with a validation after each."""
    from engine_toys import NUMBERS

    checkpoint = {'type': 'SafeCheckpointHook', 'interval': 1}
    if save_best is not None:
        checkpoint |= {'save_best': save_best} | ({'rule': rule} if rule else {})
    default = {'checkpoint': checkpoint, 'logger': {'type': 'LoggerHook', 'interval': 1}}
    default |= {} if checked else {'validation_check': None}
    train = kwargs.pop('train', None) or loader(LabeledNoise())
    held_out = kwargs.pop('held_out', None) or hold_out()
    return make_runner(
        folder,
        hooks=hooks,
        **{
            'model': {'type': 'NoiseClassifier'},
            'train_dataloader': train,
            'val_dataloader': held_out,
            'val_cfg': {'type': 'ValLoop'},
            'val_evaluator': {'type': 'Accuracy'} if evaluator is None else evaluator,
            'default_hooks': default,
            'experiment_name': f'validated_{next(NUMBERS)}',
        }
        | kwargs,
    )


def hold_out(batch=2, images=None, **kwargs):
    """The config of a loader of held-out images, in order."""
    return loader(images or LabeledNoise(5), batch, sampler={'type': 'DefaultSampler', 'shuffle': False}, **kwargs)


def trace_of(error):
    """Its stack trace as it is printed, with notes."""
    return ''.join(traceback.format_exception(error))
