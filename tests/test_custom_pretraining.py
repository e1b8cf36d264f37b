"""The templates of configs/pretrain/custom: one per family of encoders, each for three sizes."""

import re

import pytest
import torch

from mae_toolkit.apis import build_model, load_config, training
from mae_toolkit.errors import UserError
from mae_toolkit.planning.device import find_device
from mae_toolkit.planning.trials import StepTimer, time_loading
from test_configs import ROOT
from tiny import run

TEMPLATES = sorted((ROOT / 'configs' / 'pretrain' / 'custom').glob('*.py'))
IMAGES = ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd' / 'images'
every_template = pytest.mark.parametrize('path', TEMPLATES, ids=lambda path: path.stem)


def build(path, **options):
    """Model of a template, without memory."""
    with torch.device('meta'):
        return build_model(load_config(path, options))


@every_template
def test_settings_of_a_template_reach_every_place(path, tmp_path):
    options = {'data_root': 'photos', 'size': 160, 'channels': 5, 'batch_size': 32, 'epochs': 100, 'repeat': 4}
    options |= {'mean': [1.0] * 5, 'std': [2.0] * 5, 'base_lr': 1e-3}
    (tmp_path / 'child.py').write_text(
        f"_base_ = '{path}'\n" + ''.join(f'{name} = {value!r}\n' for name, value in options.items())
    )
    for cfg in (load_config(path, options), load_config(tmp_path / 'child.py')):
        train, val = cfg.train_dataloader, cfg.val_dataloader
        assert {train.dataset.data_root, val.dataset.data_root} == {'photos'}
        assert train.dataset.pipeline[0].size == val.dataset.pipeline[1].size == 160
        assert cfg.model.encoder.get('img_size', 160) == 160
        assert train.dataset.channels == val.dataset.channels == cfg.model.encoder.in_chans == 5
        assert cfg.model.data_preprocessor.mean == options['mean'] and cfg.model.data_preprocessor.std == options['std']
        assert train.batch_size == val.batch_size == cfg.auto_scale_lr.base_batch_size == 32
        assert cfg.optim_wrapper.optimizer.lr == pytest.approx(1e-3 * (32 / 256) ** 0.5)
        assert cfg.train_cfg.max_epochs == 25 and train.dataset.repeat == 4
        assert cfg.param_scheduler[0].end == cfg.param_scheduler[1].begin == 1.25
    assert path.read_text().count('data/my_images') == 0
    assert load_config(path).train_dataloader.dataset.data_root == 'data/my_images'


@every_template
def test_at_the_batch_of_the_publication_the_learning_rate_is_the_published_one(path):
    published = 8e-4 if path.stem == 'hiera' else 1.5e-4 * 4096 / 256
    assert load_config(path, {'batch_size': 4096}).optim_wrapper.optimizer.lr == pytest.approx(published)


@pytest.mark.slow
@every_template
def test_the_three_sizes_of_a_template_are_as_its_table_says(path):
    rows = re.findall(r'^# (\w+) +([\d.]+) M +(\d+)(?: +(\d+))?$', path.read_text(), re.M)
    assert len(rows) == 3
    for arch, parameters, width, depth in rows:
        options = {'arch': arch, 'decoder_dim': int(width)} | ({'decoder_depth': int(depth)} if depth else {})
        model = build(path, **options)
        counts = [sum(p.numel() for p in part.parameters()) for part in (model.encoder, model.decoder)]
        assert counts[0] / 1e6 == pytest.approx(float(parameters), rel=0.03)
        assert counts[1] < 0.5 * counts[0], 'the decoder does not fit the encoder'


@pytest.mark.process
def test_a_template_trains_on_a_folder_and_children_and_options_set_its_knobs(tmp_path):
    """As a user does: a config of one's own with a path, and options on the command line."""
    (tmp_path / 'mine.py').write_text(
        f"_base_ = '{ROOT}/configs/pretrain/custom/vit.py'\ndata_root = '{IMAGES}'\n"
        "arch = 'vit_tiny_patch16_224'\ndecoder_depth = 1\nsize = (32, 48)\nworkers = 1\n"
    )
    small = ['epochs=2', 'batch_size=16', 'validate_every=1', 'model.encoder.depth=1']
    text = run('train', tmp_path / 'mine.py', '--work-dir', tmp_path / 'run', '--cfg-options', *small, plain=True)
    assert 'epoch 2, held-out images: loss' in text
    assert (tmp_path / 'run' / 'epoch_1.pth').exists() and (tmp_path / 'run' / 'epoch_2.pth').exists()


def test_slow_bfloat16_is_warned_of(monkeypatch):
    """A CPU without instructions for it took half a minute for a step, and nothing said why."""
    said = []
    monkeypatch.setattr('torch.cuda.is_available', lambda: False)
    monkeypatch.setattr('mae_toolkit.apis.training.print_log', lambda text, *_: said.append(text))
    cfg = load_config(TEMPLATES[0])
    for fast, precision, count in ((True, 'bfloat16', 0), (False, 'float32', 0), (False, 'bfloat16', 1)):
        monkeypatch.setattr('mae_toolkit.apis.training.multiplies_bfloat16_fast', lambda device, fast=fast: fast)
        cfg.optim_wrapper.dtype = precision
        training._warn_of_slow_bfloat16(cfg)
        assert len(said) == count
    assert 'float32' in said[0]


def test_another_type_replaces_the_whole_dict_or_the_refusal_says_how(tmp_path):
    def child(encoder):
        path = tmp_path / 'child.py'
        base = ROOT / 'configs' / 'pretrain' / 'custom' / 'vit.py'
        decoder = "decoder=dict(_delete_=True, type='ConvNeXtDecoder', embed_dim=64)"
        path.write_text(f"_base_ = '{base}'\nmodel = dict(encoder=dict({encoder}), {decoder})\n")
        return path

    with pytest.raises(UserError, match="ConvNeXt has no argument 'img_size'.* add _delete_=True to the dict"):
        build(child("type='ConvNeXt', arch='convnextv2_atto'"))
    model = build(child("_delete_=True, type='ConvNeXt', arch='convnextv2_atto'"))
    assert type(model.encoder).__name__ == 'ConvNeXt'


@pytest.mark.slow
@every_template
def test_a_step_of_the_smallest_encoder_on_small_images(path):
    """As the planning tries it; two cells of the mask a side are enough."""
    arch = re.search(r'^# (\w+) +[\d.]+ M', path.read_text(), re.M)[1]
    options = {'arch': arch, 'size': 112 if '14' in arch else 96, 'decoder_dim': 64, 'data_root': str(IMAGES)}
    cfg = load_config(path, options)
    trial = StepTimer(cfg, find_device()).time_step(2, 'float32')
    assert trial is not None and trial.batch == 2 and trial.rate > 0
    assert 0 < time_loading(cfg) < 10
