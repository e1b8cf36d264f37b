"""No code from a file: every place x every kind of malicious file, with a marker that must not appear."""

import io
import os
import pickle
import runpy
import shutil
import sys

import mmengine
import numpy as np
import pytest
import timm
import torch
from mmengine.config import Config, ConfigDict
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import _load_checkpoint_with_prefix

import parts
from engine_toys import make_runner
from launching import ROOT
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.checkpoints.weights import load_weights_and_grids
from mae_toolkit.datasets import read_image
from mae_toolkit.downstream.predictor import Predictor
from mae_toolkit.engine.code_guard import FORCE, UNSAFE, refuse_code_in_files
from mae_toolkit.errors import UserError
from mae_toolkit.export.export import export
from mae_toolkit.models.losses.perceptual_loss import _read_linear
from mae_toolkit.models.targets import CodebookTarget
from mae_toolkit.models.teacher import Teacher
from mae_toolkit.transfer.experiment import read_experiment
from malicious_files import WEIGHTS, Call, malicious, saved, training


@pytest.fixture
def guarded(monkeypatch):
    """What the runner and the tools do first; the environment is as before afterwards."""
    monkeypatch.setenv(FORCE, '0')
    refuse_code_in_files()


# Where a file is read by torch or timm alone, the refusal is theirs, and .pkl files may hold something harmless first.
OF_LIBRARIES = {
    *('torch.load', 'torch.load of a stream', 'a URL', 'a URL of torch', "timm's checkpoint_path", "timm's file"),
    *('openmmlab://', '.npy images', 'mmengine.load, .pkl', 'mmengine.load, .pickle'),
}


class Module(BaseModule):
    def __init__(self, init_cfg=None, inner=None):
        super().__init__(init_cfg)
        self.a = torch.nn.Linear(3, 2)
        self.inner = inner


def initialized(path, **changes):
    Module({'type': 'Pretrained', 'checkpoint': str(path), **changes}).init_weights()


def inner(path):
    Module(inner=Module({'type': 'Pretrained', 'checkpoint': str(path)})).init_weights()


class Toy(Predictor):
    task = 'toy'

    def _build(self, cfg):
        return Module()


class Places:
    """Every function that takes a file of weights."""

    def __init__(self, folder, monkeypatch):
        self.folder = folder
        monkeypatch.setenv('TORCH_HOME', str(folder / 'torch'))
        monkeypatch.setenv('MMENGINE_HOME', str(folder / 'mmengine'))
        for name in ('torch/checkpoints', 'torch/hub/checkpoints', 'mmengine'):
            (folder / name).mkdir(parents=True)
        (folder / 'mmengine' / 'open_mmlab.json').write_text('{"mine": "evil.pth"}')
        self.runner = make_runner(folder / 'run', epochs=1)
        self.runner.train()
        frozen = {'type': 'ViT', 'arch': 'vit_tiny_patch16_224', 'depth': 1, 'embed_dim': 24, 'num_heads': 3}
        self.ways = {
            'load': load,
            'import_weights, reconstruct': load_weights_and_grids,
            'export_weights': lambda path: list(export(path, folder / 'out.pth')),
            'load_from, test.py': self.runner.load_checkpoint,
            '--resume FILE': lambda path: self.runner.resume(str(path)),
            '--resume': lambda path: self.newest(path, 'found'),
            'last_checkpoint': lambda path: self.newest(path, 'named'),
            'predict.py': lambda path: Toy(Config({'test_dataloader': {'dataset': {'pipeline': []}}}), str(path)),
            'init_cfg of an encoder': self.encoder,
            'init_cfg of a module': initialized,
            'init_cfg with a prefix': lambda path: initialized(path, prefix='a.'),
            'init_cfg of a module within': inner,
            'teacher': lambda path: Teacher(frozen, str(path)),
            'perceptual': lambda path: _read_linear(str(path), (3,)),
            'centers': lambda path: CodebookTarget(8, centers=str(path)),
            'MMEngine': lambda path: load_checkpoint(Module(), str(path)),
            'MMEngine with a prefix': lambda path: _load_checkpoint_with_prefix('a.', str(path)),
            'a URL': self.downloaded,
            'a URL of torch': lambda path: torch.hub.load_state_dict_from_url(f'file://{path}', weights_only=False),
            'openmmlab://': self.in_zoo,
            'torch.load': lambda path: torch.load(path, weights_only=False),
            'torch.load of a stream': lambda path: torch.load(io.BytesIO(path.read_bytes()), weights_only=False),
            "timm's checkpoint_path": lambda path: timm.create_model('test_vit', checkpoint_path=str(path)),
            "timm's file": lambda path: timm.create_model('test_vit', True, pretrained_cfg_overlay={'file': str(path)}),
            'mmengine.load, .pkl': lambda path: self.data(path, 'pkl'),
            'mmengine.load, .pickle': lambda path: self.data(path, 'pickle'),
            '.npy images': self.image,
        }

    def outcome(self, way, path):
        """'refused' in a sentence, or what else."""
        try:
            self.ways[way](path)
        except UserError:
            return 'refused'
        except Exception as error:
            return f'{type(error).__name__}: {error}'
        return 'loaded'

    def newest(self, path, how):
        shutil.rmtree(self.folder / how, ignore_errors=True)
        (self.folder / how / 'elsewhere').mkdir(parents=True)
        elsewhere = self.folder / how / ('' if how == 'found' else 'elsewhere')
        shutil.copy(path, elsewhere / 'iter_9.pth')
        if how == 'named':
            (self.folder / how / 'last_checkpoint').write_text(str(elsewhere / 'iter_9.pth'))
        if newest_checkpoint(self.folder / how) is None:
            raise UserError('skipped with a warning')

    def encoder(self, path):
        encoder = parts.make_encoder('ViT', init_cfg={'type': 'Pretrained', 'checkpoint': str(path)})
        encoder.init_weights()

    def downloaded(self, path):
        """A URL whose file has been downloaded before."""
        shutil.copy(path, self.folder / 'torch' / 'hub' / 'checkpoints' / 'evil.pth')
        shutil.copy(path, self.folder / 'torch' / 'checkpoints' / 'evil.pth')
        load_checkpoint(Module(), 'https://nowhere.invalid/evil.pth')

    def in_zoo(self, path):
        shutil.copy(path, self.folder / 'mmengine' / 'evil.pth')
        load_checkpoint(Module(), 'openmmlab://mine')

    def data(self, path, suffix):
        shutil.copy(path, self.folder / f'annotations.{suffix}')
        mmengine.load(str(self.folder / f'annotations.{suffix}'))

    def image(self, path):
        shutil.copy(path, self.folder / 'image.npy')
        read_image(self.folder / 'image.npy')


@pytest.mark.slow
def test_no_place_executes_code_from_any_file(tmp_path, monkeypatch, guarded):
    places, marker, count = Places(tmp_path, monkeypatch), tmp_path / 'marker', 0
    for kind, content in malicious(marker):
        for suffix in ('.pth', '.bin', '.safetensors'):
            path = tmp_path / f'evil{suffix}'
            path.write_bytes(content)
            for way in places.ways if suffix == '.pth' else ('load', 'MMEngine', 'init_cfg of a module'):
                found = places.outcome(way, path)
                assert not marker.exists(), f'{way} executed code from {kind}'
                assert found == 'refused' or way in OF_LIBRARIES, f'{way} of {kind}: {found}'
                count += 1
    print(f'\n{count} of {count} malicious files refused')


@pytest.mark.parametrize('kind', ['os.system beside weights', 'legacy', 'pickle 4', 'npy'])
def test_the_files_are_malicious(tmp_path, kind, monkeypatch):
    """Without care they do execute code: the marker is no empty threat."""
    monkeypatch.delenv(FORCE, raising=False)
    marker, path = tmp_path / 'marker', tmp_path / 'evil'
    path.write_bytes(dict(malicious(marker))[kind])
    if kind == 'npy':
        np.load(path, allow_pickle=True)
    elif kind.startswith('pickle'):
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert marker.exists()


def test_the_config_in_a_checkpoint_is_not_executed(tmp_path, guarded):
    """MMEngine executes ``meta['config']`` of the checkpoint that a run is resumed from."""
    runner = make_runner(tmp_path / 'run', epochs=1)
    runner.train()
    checkpoint = torch.load(tmp_path / 'run' / 'epoch_1.pth')
    checkpoint['meta']['config'] = training(tmp_path / 'marker')['meta']['config']
    torch.save(checkpoint, tmp_path / 'evil.pth')
    runner._resume = True
    runner.resume(str(tmp_path / 'evil.pth'))
    assert runner.iter == 6 and not (tmp_path / 'marker').exists()


def test_the_runner_guards_its_process(tmp_path, monkeypatch):
    monkeypatch.setenv(FORCE, '0')
    make_runner(tmp_path)
    assert os.environ[FORCE] == '1'


def test_harmless_files_still_load(tmp_path, guarded):
    torch.save({'state_dict': WEIGHTS}, tmp_path / 'a.pth')
    module = Module({'type': 'Pretrained', 'checkpoint': str(tmp_path / 'a.pth'), 'prefix': 'a.'})
    assert torch.equal(_load_checkpoint_with_prefix('a.', str(tmp_path / 'a.pth'))['weight'], WEIGHTS['a.weight'])
    load_checkpoint(module, str(tmp_path / 'a.pth'))
    assert torch.equal(module.a.weight, WEIGHTS['a.weight'])
    values = {'a': [1, 2.5, None], 'b': ({'x'}, b'y', 10**20)}
    for suffix in ('pkl', 'yaml', 'json'):
        mmengine.dump(values if suffix == 'pkl' else {'a': [1, 'x']}, tmp_path / f'v.{suffix}')
        assert mmengine.load(tmp_path / f'v.{suffix}') == (values if suffix == 'pkl' else {'a': [1, 'x']})
    assert torch.equal(pickle.loads(pickle.dumps(torch.ones(3))), torch.ones(3))  # between processes


TAGS = ('object/apply:os.system', 'object/new:os.system', 'name:os.system', 'module:antigravity')


@pytest.mark.parametrize('tag', TAGS)
def test_yaml_calls_no_python(tmp_path, tag, guarded):
    marker = tmp_path / 'marker'
    argument = "''" if 'name' in tag or 'module' in tag else f"['touch {marker}']"
    text = f'encoders: !!python/{tag} {argument}\ntasks: {{}}\n'
    (tmp_path / 'a.yaml').write_text(text)
    with pytest.raises(UserError, match='refused: a YAML file asks for Python'):
        mmengine.load(tmp_path / 'a.yaml')
    with pytest.raises(UserError, match='is no YAML'):
        read_experiment(tmp_path / 'a.yaml')
    assert not marker.exists()


def test_a_wish_for_unsafe_loading_is_ignored_and_said(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv(FORCE, '0')
    monkeypatch.setenv(UNSAFE, '1')
    refuse_code_in_files()
    assert UNSAFE not in os.environ
    torch.save({'x': Call(os.system, f'touch {tmp_path / "marker"}')}, tmp_path / 'evil.pth')
    with pytest.raises(UserError, match='refused'):
        load_checkpoint(Module(), str(tmp_path / 'evil.pth'))
    with pytest.raises(pickle.UnpicklingError):
        torch.load(tmp_path / 'evil.pth')
    assert not (tmp_path / 'marker').exists()


OWN = {
    'mmdet': [
        {'type': 'ResNet', 'depth': 18},
        {'type': 'SwinTransformer', 'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': (1, 1, 1, 1)},
        {'type': 'PyramidVisionTransformer', 'num_layers': [1] * 4},
    ],
    'mmseg': [
        {'type': 'ResNet', 'depth': 18},
        {'type': 'VisionTransformer', 'embed_dims': 24, 'num_layers': 1, 'num_heads': 1},
        {'type': 'SwinTransformer', 'embed_dims': 24, 'depths': (1, 1, 1, 1), 'num_heads': (1, 1, 1, 1)},
        {'type': 'BEiT', 'embed_dims': 24, 'num_layers': 1, 'num_heads': 1},
        {'type': 'MixVisionTransformer', 'embed_dims': 8, 'num_layers': [1] * 4, 'num_heads': [1] * 4},
        {'type': 'PIDNet', 'channels': 8, 'ppm_channels': 8},
    ],
}


@pytest.mark.parametrize('package', OWN)
def test_backbones_of_openmmlab_execute_no_code(tmp_path, package, guarded):
    registry = pytest.importorskip(f'{package}.registry')
    __import__(f'{package}.models')
    marker = tmp_path / 'marker'
    for suffix, content in (('.pth', saved({'state_dict': WEIGHTS, 'x': Call(os.system, f'touch {marker}')})),):
        (tmp_path / f'evil{suffix}').write_bytes(content)
        for config in OWN[package]:
            start = {'type': 'Pretrained', 'checkpoint': str(tmp_path / f'evil{suffix}')}
            inside = DefaultScope.overwrite_default_scope(package)
            with inside, pytest.raises(UserError, match='refused: loading .* would execute code'):
                registry.MODELS.build(ConfigDict(**config, init_cfg=start)).init_weights()
            assert not marker.exists(), config['type']


TOOLS = {
    'test': ('{config}', '{evil}'),
    'reconstruct': ('{config}', '{evil}', '{images}', '--out', '{work}'),
    'export_weights': ('{evil}', '--out', '{out}'),
    'import_weights': ('{evil}', '{config}', '--out', '{out}'),
    'train': ('{config}', '--work-dir', '{work}', '--resume', '{evil}'),
    'train, load_from': ('{config}', '--work-dir', '{work}', '--cfg-options', 'load_from={evil}'),
    'train, init_cfg': ('{started}', '--work-dir', '{work}'),
}


@pytest.mark.parametrize('name', TOOLS)
def test_tools_execute_no_code(tmp_path, name, monkeypatch, capsys, guarded):
    places = {'config': ROOT / 'configs/pretrain/quickstart.py', 'evil': tmp_path / 'evil.pth'}
    places |= {'out': tmp_path / 'out.pth', 'work': tmp_path / 'work'}
    places |= {'images': ROOT / 'mae_toolkit/data/tiny', 'started': tmp_path / 'started.py'}
    start = dict(type='Pretrained', checkpoint=str(places['evil']))
    places['started'].write_text(f"_base_ = '{places['config']}'\nmodel = dict(encoder=dict(init_cfg={start}))\n")
    tool, marker = name.split(',')[0], tmp_path / 'marker'
    places['evil'].write_bytes(dict(malicious(marker))['os.system beside weights'])
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, 'argv', [tool, *(text.format(**places) for text in TOOLS[name])])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(ROOT / 'tools' / f'{tool}.py'), run_name='__main__')
    said = capsys.readouterr().err
    assert end.value.code == 2 and 'error: refused: loading' in said and not marker.exists(), said
