"""Every way to load weights x every kind of odd file: it loads, or is refused in a sentence.

Each kind meets some of the ways, in turn; with ALL_ODD_CHECKPOINTS=1 in the environment, all of them.
"""

import collections
import logging
import os
import re
import shutil
import time
import warnings
import zipfile

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import CheckpointLoader

import odd_checkpoints as odd
import parts
from engine_toys import ToyImages, ToyPreprocessor, loader, make_runner
from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.files import (
    load,
    load_training,
    newest_checkpoint,
)
from mae_toolkit.checkpoints.load import load_any, load_state
from mae_toolkit.checkpoints.weights import load_weights, load_weights_and_grids
from mae_toolkit.downstream.predictor import Predictor
from mae_toolkit.errors import UserError
from mae_toolkit.export.export import export
from mae_toolkit.models.losses.perceptual_loss import _read_linear
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
            'load_weights': load_weights,
            'load_weights_and_grids': load_weights_and_grids,
            'load_training': load_training,
            'newest_checkpoint': self.newest,
            'load_pretrained, prefix': lambda path: load_pretrained(parts.make_encoder('ViT'), path, 'encoder'),
            'load_pretrained': lambda path: load_pretrained(parts.make_encoder('ViT'), path),
            'load_pretrained, strict': lambda path: load_pretrained(parts.make_encoder('ViT'), path, strict=True),
            'import_weights': lambda path: load_any(self.model, *self.in_order(path)),
            'reconstruct': lambda path: load_state(self.model, load_weights_and_grids(path)[0]),
            'Runner.load_checkpoint': self.runner.load_checkpoint,
            'Runner.resume': self.resume,
            'predictor': self.predict,
            'export, timm': lambda path: list(export(path, folder / 'out.pth')),
            'export, safetensors': lambda path: list(export(path, folder / 'out.safetensors', 'safetensors')),
            "MMEngine's loader": lambda path: CheckpointLoader.load_checkpoint(str(path), 'cpu'),
            'centers': lambda path: CodebookTarget(8, centers=str(path)),
            'perceptual': lambda path: _read_linear(str(path), (3,)),
        }

    def in_order(self, path):
        state, grids = load_weights_and_grids(path)
        return state, 'pixel', None, grids

    def resume(self, path):
        """Resume, and do one step: what is taken over must be of use."""
        self.runner.resume(str(path))
        for parameter in self.runner.model.parameters():
            parameter.grad = torch.zeros_like(parameter)
        self.runner.optim_wrapper.step()
        for schedule in self.runner.param_schedulers:
            schedule.step()

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

            def _read_class_info(self, dataset):
                return {'classes': ['a']}

            def _prepare_pipeline(self, pipeline):
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


@pytest.fixture(autouse=True)
def _quiet():
    """Thousands of lines in the log would take most of the time."""
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    yield
    logging.disable(before)


def assert_told(place, files, ways=None, share=9):
    """Ways on files: each file loads or is refused; how many of each outcome there are is printed."""
    share = 1 if os.environ.get('ALL_ODD_CHECKPOINTS') else share
    counts, wrong = collections.Counter(), []
    for i, (kind, content) in enumerate(files):
        if isinstance(content, bytes):
            place.file.write_bytes(content)
        else:
            torch.save(content, place.file)
        for way in [way for j, way in enumerate(ways or place.ways) if (i + j) % share == 0]:
            found = place.outcome(way, place.file)
            counts[found if found in ('loaded', 'refused') else 'other'] += 1
            if found not in ('loaded', 'refused'):
                wrong.append(f'{way} of {kind}: {found}')
    print(f'\n{dict(counts)}')
    assert not wrong, f'{len(wrong)} of {counts.total()}:\n' + '\n'.join(wrong)


@pytest.mark.slow
def test_odd_weights(place):
    rest = {key: value for key, value in place.checkpoint.items() if key != 'ema_state_dict'}
    kinds = odd.odd_states(place.checkpoint['state_dict'])
    assert_told(place, ((kind, {**rest, 'state_dict': state}) for kind, state in kinds))


@pytest.mark.slow
def test_odd_containers(place):
    assert_told(place, odd.odd_containers(place.checkpoint['state_dict']).items())


@pytest.mark.slow
def test_odd_parts_of_training_checkpoints(place):
    ways = ('load_weights_and_grids', 'newest_checkpoint', 'Runner.load_checkpoint', 'Runner.resume', 'predictor')
    assert_told(place, odd.odd_parts(place.checkpoint), ways, share=5)


@pytest.mark.slow
def test_odd_states_of_optimizers_and_schedules(place):
    assert_told(place, odd.odd_optimizers(place.checkpoint), ('Runner.resume',), share=3)
    assert_told(place, odd.odd_schedules(place.checkpoint), ('Runner.resume',), share=1)


def test_odd_averages(place):
    assert_told(place, odd.odd_averages(place.checkpoint), ('Runner.load_checkpoint', 'Runner.resume'))


@pytest.mark.slow
def test_odd_bytes(place):
    ways = ('load', 'newest_checkpoint', 'Runner.load_checkpoint', 'Runner.resume', 'predictor', "MMEngine's loader")
    files = odd.odd_bytes(place.good.read_bytes(), np.random.default_rng(0))
    assert_told(place, files, ways, share=6)


def test_odd_safetensors(place):
    place.file = place.folder / 'odd.safetensors'
    try:
        state = place.checkpoint['state_dict']
        assert_told(place, odd.odd_safetensors(state))
    finally:
        place.file = place.folder / 'odd.pth'


def refused(place, content, way='load_weights_and_grids'):
    """What is said of a file."""
    torch.save(content, place.file) if not isinstance(content, bytes) else place.file.write_bytes(content)
    with pytest.raises(UserError) as refusal:
        place.ways[way](place.file)
    return str(refusal.value)


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        (
            'dino',
            r"2 sets of weights, .*odd.pth#teacher \(\d+ tensors, 'backbone.encoder.*' first\) or \S+odd.pth#student",
        ),
        ('empty', 'holds no tensors by name .its keys: none'),
        ('numbers', "its keys: 'state_dict'"),
        ('list', 'holds a list'),
        ('whole model', r'would execute code from it \(torch.nn.modules.linear.Linear\): save the weights alone'),
    ],
)
def test_a_refusal_has_the_names_of_the_file(place, name, said):
    content = odd.odd_containers(place.checkpoint['state_dict'])[name]
    assert re.search(said, refused(place, content))


@pytest.mark.parametrize(
    ('name', 'said'),
    [
        ('float8_e4m3fn', r'1 of its \d+ tensors cannot be used as weights, the first .* \(float8_e4m3fn\)'),
        ('quantized', r'\(quantized, qint8\)'),
        ('coo', r'\(sparse, sparse_coo\)'),
        ('meta', r'\(a meta tensor, which has no values\)'),
        ('nested', r'\(a nested tensor\)'),
        ('int8', r'another kind of numbers than the model, the first .* \(int8 there, float32 here\)'),
        ('complex64', r'\(complex64\)'),
        (
            'expanded to terabytes',
            r'shapes of 4\d{12} bytes in all, and the file holds \d+; the largest, .*1000000, 1000000',
        ),
        ('nan', 'is not finite, the first'),
    ],
)
def test_an_odd_tensor_is_named(place, name, said):
    state = place.checkpoint['state_dict']
    first = odd.first_matrix(state)
    content = {'state_dict': {**state, first: odd.odd_tensors(state[first])[name]}}
    text = refused(place, content, 'import_weights' if name == 'int8' else 'load_weights_and_grids')
    assert re.search(said, text) and first in text


@pytest.mark.parametrize('name', ['ema alone', 'state_dict_ema', 'nested'])
def test_the_only_weights_of_a_file_are_taken(place, name):
    torch.save(odd.odd_containers(place.checkpoint['state_dict'])[name], place.file)
    assert load_weights(place.file).keys() == place.checkpoint['state_dict'].keys()


@pytest.mark.parametrize('prefix', ['module.', '_orig_mod.', 'module._orig_mod.', '_orig_mod.module.'])
def test_prefixes_of_wrappers_are_taken_off(place, prefix):
    torch.save({'state_dict': {prefix + k: v for k, v in place.checkpoint['state_dict'].items()}}, place.file)
    assert load_weights(place.file).keys() == place.checkpoint['state_dict'].keys()


def test_it_is_said_which_of_weights_and_average_is_taken(place, caplog):
    logging.disable(logging.NOTSET)
    state, logger = place.checkpoint['state_dict'], MMLogger.get_current_instance()
    logger.addHandler(caplog.handler)
    try:
        for other in ('model_ema', 'state_dict_ema', 'ema'):
            torch.save({'model': state, other: dict(state)}, place.file)
            load_weights(place.file)
            assert f"'model' is taken, not '{other}', the running average (EMA)" in caplog.text
        assert load_weights(place.good).keys() == state.keys()
        assert "'state_dict', the running average (EMA), is taken, not 'ema_state_dict'" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)


def test_numbers_of_compressed_files_are_right(place):
    place.file.write_bytes(odd.rewritten(place.good.read_bytes(), zipfile.ZIP_DEFLATED))
    found = load_weights(place.file)
    assert all(torch.equal(found[k], v) for k, v in place.checkpoint['state_dict'].items())


def test_files_that_were_written_without_checksums_load(place):
    torch.serialization.set_crc32_options(False)
    try:
        torch.save({'state_dict': place.checkpoint['state_dict']}, place.file)
    finally:
        torch.serialization.set_crc32_options(True)
    assert load_weights(place.file).keys() == place.checkpoint['state_dict'].keys()


@pytest.mark.slow
def test_the_older_checkpoint_is_taken_whatever_is_broken_in_the_newest(place):
    kinds = dict(odd.odd_bytes(place.good.read_bytes(), np.random.default_rng(1)))
    structure = ('cut at 0.6', 'end lost', 'encrypted', 'no utf-8', 'method 8', 'method 99', 'zip of rubbish', 'empty')
    for kind in structure:
        place.file.write_bytes(kinds[kind])
        place.newest(place.file)
        assert newest_checkpoint(place.folder / 'found').name == 'iter_5.pth', kind


def test_damage_is_seen_by_every_load(place):
    whole = bytearray(place.good.read_bytes())
    weight = place.checkpoint['state_dict'][odd.first_matrix(place.checkpoint['state_dict'])]
    middle = whole.index(weight.numpy().tobytes())
    whole[middle : middle + 4] = b'\0\0\0\x3f'  # 0.5
    for way in ('load_weights_and_grids', 'Runner.load_checkpoint', 'Runner.resume', 'predictor', "MMEngine's loader"):
        assert 'is damaged: ' in refused(place, bytes(whole), way)
