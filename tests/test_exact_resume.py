"""A detector, a segmenter and a classifier that are killed go on bit for bit as if they had not been."""

import os
import signal

import pytest
import torch

from launching import ROOT
from mae_toolkit.apis import load_config
from mae_toolkit.apis import training as api
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.engine.hooks import NaNGuardHook

TINY = ROOT / 'mae_toolkit' / 'data' / 'tiny'
STEPS, KILLED = 4, 3
# Of each task: a config, what makes it small, and the number of workers of the run that is killed.
TASKS = {
    'detection': (
        'faster-rcnn_convnextv2-a_500s_bccd.py',
        {
            'train_dataloader.dataset.data_root': f'{TINY}/bccd/',
            'train_dataloader.dataset.pipeline.2.scale': (96, 72),
            'train_dataloader.dataset.pipeline.3.crop_size': (96, 72),
        },
        1,
    ),
    'segmentation': (
        'fcn_convnextv2-a_500s_dsb2018.py',
        {
            'train_dataloader.dataset.data_root': f'{TINY}/dsb2018/',
            'train_dataloader.dataset.pipeline.2.scale': (96, 96),
            'train_dataloader.dataset.pipeline.3.crop_size': (64, 64),
            'model.data_preprocessor.size': (64, 64),
        },
        1,
    ),
}


def small(task, workers):
    name, changes, _ = TASKS[task]
    changes = changes | {
        'train_dataloader.batch_size': 2,
        'train_dataloader.num_workers': workers,
        'train_dataloader.persistent_workers': workers > 0,
        'train_cfg.max_iters': STEPS,
        'param_scheduler': [],
        'default_hooks.checkpoint.interval': 2,
        'env_cfg.num_threads': 1,
    }
    cfg = load_config(ROOT / 'configs' / task / name, changes)
    cfg.val_cfg = cfg.val_dataloader = cfg.val_evaluator = None
    return cfg


def is_killed(cfg, run, monkeypatch):
    """Train in a process of its own that is killed, and its workers with it."""

    def kill(self, runner, batch_idx, data_batch=None):
        if runner.iter == KILLED:
            os.killpg(0, signal.SIGKILL)

    process = os.fork()
    if not process:
        os.setpgid(0, 0)
        monkeypatch.setattr(NaNGuardHook, 'before_train_iter', kill, raising=False)
        try:
            api.train(cfg, run)
        finally:
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == -signal.SIGKILL


@pytest.mark.process
@pytest.mark.parametrize('task', TASKS)
def test_a_killed_run_ends_with_the_same_weights(task, tmp_path, monkeypatch):
    pytest.importorskip({'detection': 'mmdet', 'segmentation': 'mmseg'}[task])
    api.train(small(task, 0), tmp_path / 'whole')
    workers = TASKS[task][2]
    assert is_killed(small(task, workers), tmp_path / 'parts', monkeypatch)
    assert newest_checkpoint(tmp_path / 'parts').name == 'iter_2.pth'
    api.train(small(task, workers), tmp_path / 'parts', resume='auto')
    whole, parts = (load(newest_checkpoint(tmp_path / name))['state_dict'] for name in ('whole', 'parts'))
    assert whole.keys() == parts.keys() and all(torch.equal(value, parts[name]) for name, value in whole.items())
