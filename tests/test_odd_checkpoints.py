"""Every way to load weights x every kind of odd file: it loads, or is refused in a sentence."""

import collections
import shutil
import time
import warnings

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader

import odd_checkpoints as odd
import parts
from engine_toys import ToyImages, ToyPreprocessor, loader, make_runner
from mae_toolkit import weights
from mae_toolkit.apis.export import export
from mae_toolkit.apis.predictor import Predictor
from mae_toolkit.engine.checkpoint import (
    load,
    load_foreign,
    load_training,
    load_with_grids,
    newest_checkpoint,
)
from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders.pretrained import load_pretrained, load_whole
from mae_toolkit.models.losses.perceptual_loss import _linear
from mae_toolkit.models.targets import CodebookTarget


def training(work_dir, **options):
    images = ToyImages(shape=(3, *parts.SIZE), images=4)
    model = parts.make_model(data_preprocessor=ToyPreprocessor())
    return make_runner(work_dir, model=model, epochs=1, train_dataloader=loader(images), **options)


class Place:
    """A run that has trained, its checkpoint, and every function that takes such a file."""

    def __init__(self, folder):
        self.folder, self.file = folder, folder / 'odd.pth'
        self.runner = training(folder / 'run', hooks=[{'type': 'EMAHook'}])
        self.runner.train()
        self.runner._resume = True
        self.checkpoint = odd.plain(load(folder / 'run' / 'epoch_1.pth', mmap=False))
        self.model = parts.make_model()
        self.good = folder / 'good.pth'
        torch.save(self.checkpoint, self.good)
        self.ways = {
            'load': load,
            'load_foreign': load_foreign,
            'load_with_grids': load_with_grids,
            'load_training': load_training,
            'newest_checkpoint': self.newest,
            'load_pretrained, prefix': lambda path: load_pretrained(parts.make_encoder('ViT'), path, 'encoder'),
            'load_pretrained': lambda path: load_pretrained(parts.make_encoder('ViT'), path),
            'load_whole': lambda path: load_whole(parts.make_encoder('ViT'), path),
            'import_weights': lambda path: weights.take(self.model, *self.in_order(path)),
            'reconstruct': lambda path: weights.load(self.model, load_with_grids(path)[0]),
            'Runner.load_checkpoint': self.runner.load_checkpoint,
            'Runner.resume': self.runner.resume,
            'predictor': self.predict,
            'export, timm': lambda path: list(export(path, folder / 'out.pth')),
            'export, safetensors': lambda path: list(export(path, folder / 'out.safetensors', 'safetensors')),
            "MMEngine's loader": lambda path: CheckpointLoader.load_checkpoint(str(path), 'cpu'),
            'centres': lambda path: CodebookTarget(8, centres=str(path)),
            'perceptual': lambda path: _linear(path, (3,)),
        }

    def in_order(self, path):
        state, grids = load_with_grids(path)
        return state, 'pixel', None, grids

    def newest(self, path):
        shutil.rmtree(self.folder / 'found', ignore_errors=True)
        (self.folder / 'found').mkdir()
        shutil.copy(path, self.folder / 'found' / 'iter_9.pth')
        shutil.copy(self.good, self.folder / 'found' / 'iter_5.pth')
        assert newest_checkpoint(self.folder / 'found') is not None  # the older one, at least

    def predict(self, path):
        """A predictor's first lines, of a model of this checkpoint."""
        made = parts.make_model(data_preprocessor=ToyPreprocessor())

        class Toy(Predictor):
            task = 'toy'

            def _build(self, cfg):
                return made

            def _about(self, dataset):
                return {'classes': ['a']}

            def _prepare_for(self, pipeline):
                pass

        Toy(Config({'test_dataloader': {'dataset': {'pipeline': []}}}), str(path))

    def outcome(self, way, path):
        """'loaded', 'refused', or the exception that is neither."""
        begin = time.monotonic()
        try:
            with warnings.catch_warnings():
                warnings.simplefilter('ignore')
                self.ways[way](path)
            found = 'loaded'
        except UserError as error:
            sentence = str(error)
            found = 'refused' if '\n' not in sentence and len(sentence) < 1500 else f'a long refusal: {sentence[:300]}'
        except Exception as error:
            found = f'{type(error).__name__}: {str(error)[:300]}'
        return found if time.monotonic() - begin < 60 else 'too slow'


@pytest.fixture(scope='module')
def place(tmp_path_factory):
    return Place(tmp_path_factory.mktemp('place'))


def assert_told(place, files, ways=None, may_load=True):
    """All ways on all files; how many of each outcome there are is printed."""
    counts, wrong = collections.Counter(), []
    for kind, content in files:
        path = place.file
        if isinstance(content, bytes):
            path.write_bytes(content)
        else:
            torch.save(content, path)
        for way in ways or place.ways:
            found = place.outcome(way, path)
            counts[found if found in ('loaded', 'refused') else 'other'] += 1
            if found not in ('loaded', 'refused') or (found == 'loaded' and not may_load):
                wrong.append(f'{way} of {kind}: {found}')
    print(f'\n{dict(counts)}')
    assert not wrong, f'{len(wrong)} of {counts.total()}:\n' + '\n'.join(wrong)


def test_odd_weights(place):
    kinds = odd.odd_states(place.checkpoint['state_dict'])
    assert_told(place, ((kind, {**place.checkpoint, 'state_dict': state}) for kind, state in kinds))


def test_odd_containers(place):
    assert_told(place, odd.odd_containers(place.checkpoint['state_dict']).items())


def test_odd_parts_of_training_checkpoints(place):
    ways = ('load', 'load_with_grids', 'load_training', 'newest_checkpoint', 'Runner.load_checkpoint', 'Runner.resume', 'predictor')
    assert_told(place, odd.odd_trainings(place.checkpoint), ways)


def test_odd_bytes(place):
    ways = ('load', 'load_training', 'newest_checkpoint', 'Runner.load_checkpoint', 'Runner.resume', 'predictor', "MMEngine's loader")
    files = odd.odd_bytes(place.good.read_bytes(), np.random.default_rng(0))
    assert_told(place, files, ways)


def test_odd_safetensors(place):
    place.file = place.folder / 'odd.safetensors'
    try:
        state = place.checkpoint['state_dict']
        assert_told(place, odd.odd_safetensors(state))
    finally:
        place.file = place.folder / 'odd.pth'
