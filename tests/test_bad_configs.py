"""A mistake in a config is one sentence that names it, before the first step."""

import importlib

import pytest

from bad_configs import CLASSIFY, DETECT, PRETRAIN, SEGMENT
from mae_toolkit.apis import build_model, load_config
from mae_toolkit.engine import Runner
from mae_toolkit.engine.loops import EpochTrainLoop
from mae_toolkit.errors import UserError
from mae_toolkit.registry import METRICS, OPTIM_WRAPPER_CONSTRUCTORS, TRANSFORMS
from tiny import OPTIONS, QUICKSTART, ROOT

CONFIGS = ROOT / 'configs'
SMALL = OPTIONS | {
    'default_hooks.reconstruction.indices': (0, 1),
    'visualizer.vis_backends': [],
    'val_dataloader': None,
    'val_cfg': None,
}
SMALL = {key: value for key, value in SMALL.items() if not key.startswith('val_dataloader.')}
BASES = {
    'pretrain': (QUICKSTART, PRETRAIN),
    'classify': (CONFIGS / 'classification' / 'mae_ft_vit-mini_30e_sign-digits.py', CLASSIFY),
    'detect': (CONFIGS / 'detection' / 'faster-rcnn_convnextv2-a_500s_bccd.py', DETECT),
    'segment': (CONFIGS / 'segmentation' / 'fcn_convnextv2-a_500s_dsb2018.py', SEGMENT),
}
CASES = [(name, changes, words) for name, (_, cases) in BASES.items() for changes, words in cases]


def build_all(path, changes, work_dir):
    """Read a config and build all that a training needs, for pretraining on the images that come with the toolkit."""
    base = SMALL if path == QUICKSTART else {'model.encoder.init_cfg': None} if 'classification' in path.parts else {}
    if any(key.startswith('val_') for key in changes):
        base = {key: value for key, value in base.items() if key not in ('val_dataloader', 'val_cfg')}
    base = {key: value for key, value in base.items() if not any(key.startswith(f'{new}.') for new in changes)}
    cfg = load_config(path, base | changes)
    cfg.work_dir = str(work_dir)
    if path == QUICKSTART:
        Runner.from_cfg(cfg).train()
    elif 'classification' in path.parts:
        model = build_model(cfg)
        given = dict(cfg.optim_wrapper, type='OptimWrapper')
        kind, rules = given.pop('constructor'), given.pop('paramwise_cfg', None)
        OPTIM_WRAPPER_CONSTRUCTORS.build(dict(type=kind, optim_wrapper_cfg=given, paramwise_cfg=rules))(model)
        for transform in cfg.train_dataloader.dataset.pipeline:
            TRANSFORMS.build(transform)
        METRICS.build(cfg.val_evaluator)


@pytest.fixture(autouse=True)
def _without_steps(monkeypatch):
    """A training ends before its first step."""
    monkeypatch.setattr(EpochTrainLoop, 'run', lambda loop: None)


@pytest.mark.parametrize(('base', 'changes', 'words'), CASES, ids=[f'{name}-{changes}' for name, changes, _ in CASES])
def test_a_bad_config_is_one_sentence(base, changes, words, tmp_path):
    with pytest.raises(UserError) as error:
        build_all(BASES[base][0], changes, tmp_path)
    sentence = str(error.value)
    assert '\n' not in sentence
    for word in words:
        assert word in sentence


@pytest.mark.parametrize('base', BASES)
def test_the_configs_that_are_changed_are_good(base, tmp_path):
    build_all(BASES[base][0], {}, tmp_path)


GOOD = [
    {'optim_wrapper.clip_grad': {'max_norm': 1}},
    {'optim_wrapper.clip_grad': {'max_norm': 0.1, 'norm_type': float('inf')}},
    {'optim_wrapper.clip_grad': {'type': 'value', 'clip_value': 1}},
    {'optim_wrapper.clip_grad': None},
    {'optim_wrapper.optimizer.weight_decay': 0},
    {'optim_wrapper.optimizer.fused': None},
    {'optim_wrapper.optimizer.betas': [0.0, 0.999]},
    {'optim_wrapper.paramwise_cfg': {'custom_keys': {'mask_token': {'lr_mult': 0, 'decay_mult': 0.0}}}},
    {'param_scheduler': None},
    {'param_scheduler': [{'type': 'MultiStepLR', 'milestones': (1,)}]},
    {'param_scheduler.0.end': 0.5},
    {'train_dataloader.prefetch_factor': None},
    {'train_dataloader.num_workers': 0, 'train_dataloader.persistent_workers': True},
    {'train_dataloader.num_workers': 0, 'train_dataloader.prefetch_factor': 4},
    {'train_dataloader.num_workers': 0, 'train_dataloader.timeout': 10},
    {'train_dataloader.dataset.pipeline.0.size': (32, 32)},
    {'train_dataloader.dataset.pipeline.0.scale': [0.2, 1]},
    {'train_dataloader.dataset.pipeline.1.prob': 0},
    {'default_hooks.checkpoint.interval': -1},
    {'default_hooks.reconstruction': None},
    {'default_hooks.reconstruction.indices': None},
    {'custom_hooks': [{'type': 'EMAHook', 'momentum': 0.1, 'update_buffers': True, 'priority': 49}]},
    {'custom_hooks': []},
    {'custom_hooks': None},
    {'randomness.seed': None},
    {'env_cfg.num_threads': None},
    {'env_cfg.cudnn_benchmark': 1},
    {'auto_scale_lr': None},
    {'log_level': 'WARNING'},
    {'model.encoder.img_size': (32, 32)},
    {'model.encoder.frozen_stages': 0},
    {'model.masking.predict_ratio': None},
    {'model.data_preprocessor.mean': (0, 0, 0), 'model.data_preprocessor.std': (255, 255, 255)},
    {'visualizer': None},
]


@pytest.mark.parametrize('changes', GOOD, ids=str)
def test_a_good_config_is_not_refused(changes, tmp_path):
    build_all(QUICKSTART, changes, tmp_path)


GOOD_SCALES = [
    {'ratio_range': (1.0, 1.0)},
    {'ratio_range': [0.1, 2.0]},
    {'scale': [(96, 72), (64, 48)], 'ratio_range': None},
    {'scale': (float('inf'), 72)},
]


@pytest.mark.parametrize('changes', GOOD_SCALES, ids=str)
def test_good_scales_are_not_refused(changes):
    place = 'train_dataloader.dataset.pipeline.2'
    more = {'train_dataloader.dataset.metainfo.license': 'CC0'}
    load_config(BASES['detect'][0], {f'{place}.{key}': value for key, value in changes.items()} | more)


OWN = """
from mmengine.hooks import Hook
from mae_toolkit.registry import HOOKS


@HOOKS.register_module(force=True)
class OwnHook(Hook):
    def __init__(self, interval, momentum):
        self.interval, self.momentum = interval, momentum
"""


def test_arguments_of_ones_own_part_may_mean_something_else(tmp_path, monkeypatch):
    (tmp_path / 'own_hook_with_interval.py').write_text(OWN)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.import_module('own_hook_with_interval')
    hook = {'type': 'OwnHook', 'interval': 0, 'momentum': (3, -1)}
    load_config(QUICKSTART, {'custom_hooks': [hook]})
    with pytest.raises(UserError, match='interval'):
        load_config(QUICKSTART, {'custom_hooks': [{'type': 'CheckpointHook', 'interval': 0}]})
