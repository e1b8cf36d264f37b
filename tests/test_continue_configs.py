"""Configs of continued pretraining: they begin with weights, and leave the encoder what it knows."""

from pathlib import Path

import pytest
import torch

from mae_toolkit.apis import load_config
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.registry import HOOKS, MODELS
from small_cnn import cnn_runner, make_model

ROOT = Path(__file__).resolve().parents[1]
FILES = sorted((ROOT / 'configs/continue').glob('*.py'))


@pytest.mark.parametrize('path', FILES, ids=lambda path: path.stem)
def test_each_family_goes_on_from_weights_with_a_low_rate_of_its_encoder_and_a_watch(path, tmp_path):
    options = {'data_root': str(tmp_path), 'size': 96, 'weights': 'mine.pth#teacher', 'labels': 'labels'}
    cfg = load_config(path, options | {'encoder_lr': 0.2, 'wait_steps': 7})
    encoder = cfg.model.encoder
    assert encoder.init_cfg.checkpoint == 'mine.pth#teacher'
    assert issubclass(MODELS.get(encoder.type), Encoder)
    assert cfg.optim_wrapper.paramwise_cfg.encoder_lr_mult == 0.2
    hooks = {hook['type']: hook for hook in (*cfg.custom_hooks, *filter(None, cfg.default_hooks.values()))}
    assert hooks['FreezeEncoderHook'].steps == 7 and hooks['WatchHook'].labels == 'labels'
    assert 'BatchNormStatisticsHook' in hooks and all(HOOKS.get(name) for name in hooks)
    assert cfg.train_dataloader.dataset.pipeline[0].size == 96 and cfg.train_dataloader.dataset.data_root == str(
        tmp_path
    )
    assert encoder.get('norm_eval', True)  # of the one that has batch norms


def test_there_is_one_for_every_family_that_pretrains_from_scratch():
    assert {path.stem for path in FILES} == {path.stem for path in (ROOT / 'configs/pretrain/custom').glob('*.py')}


@pytest.mark.parametrize(('part', 'begins'), [('', True), ('#encoder', False)])
def test_a_training_begins_with_the_whole_model_or_its_encoder_alone_and_says_which(tmp_path, part, begins, caplog):
    torch.manual_seed(1)
    other = make_model()
    torch.save({'state_dict': other.state_dict()}, tmp_path / 'other.pth')
    torch.manual_seed(0)
    runner = cnn_runner(tmp_path / 'run', load_from=f'{tmp_path}/other.pth{part}')
    before = {name: tensor.clone() for name, tensor in runner.model.state_dict().items()}
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.logger.addHandler(caplog.handler)
    runner.load_or_resume()
    after, theirs = runner.model.state_dict(), other.state_dict()
    assert all(torch.equal(after[name], theirs[name]) for name in after if name.startswith('encoder.'))
    rest = [name for name in after if not name.startswith('encoder.')]
    assert all(torch.equal(after[name], (theirs if begins else before)[name]) for name in rest)
    assert ('The whole model begins with' in caplog.text) == begins
    assert ('other.pth#encoder: 48 loaded, 0 resized, 68 new, 68 dropped' in caplog.text) != begins
