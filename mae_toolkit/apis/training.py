"""Train and test from a config."""

import copy
import logging
import math
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import print_log

from mae_toolkit.apis.metric_tables import mark_missing, printed_tables
from mae_toolkit.apis.run_start import enter_work_dir, share_batch
from mae_toolkit.checkpoints.files import newest_checkpoint
from mae_toolkit.engine.distributed import count_restarts, init_distributed
from mae_toolkit.engine.hooks.checkpoint_origin import CheckpointOriginHook
from mae_toolkit.engine.hooks.profile import ProfileHook
from mae_toolkit.engine.hooks.run_record import record_failure
from mae_toolkit.engine.minutes import fit_to_minutes, restore_length
from mae_toolkit.engine.runner import Runner
from mae_toolkit.engine.spikes import train_past_spikes
from mae_toolkit.engine.watch_record import read_watch
from mae_toolkit.errors import UserError
from mae_toolkit.planning.device import multiplies_bfloat16_fast
from mae_toolkit.printing import format_count
from mae_toolkit.registry import SCOPE
from mae_toolkit.visualization import read_scalars


def train(
    cfg: Config,
    work_dir: str | Path | None = None,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    launcher: str = 'none',
    minutes: float | None = None,
    profile: tuple[int, int] | None = None,
    total_batch_size: int | None = None,
    allow_changed_config: bool = False,
) -> None:
    """Train as a config says, and print what was written.

    Example::

        train(load_config('configs/pretrain/quickstart.py'), 'work_dirs/first')

    Args:
        cfg: What :func:`load_config` returns; it is not changed.
        work_dir: Folder for everything that is written; that of the config, or ``work_dirs/<config>``, if None.
        resume: ``'auto'`` to continue from the newest undamaged checkpoint of the folder, or the path of a checkpoint.
            After a restart by torchrun (``--max-restarts``), None means ``'auto'``, too.
        amp: Train in mixed precision, in bfloat16.
        auto_scale_lr: Scale the learning rate to the number of images per step, see :func:`scale_lr`.
        launcher: What started the processes: ``'none'``, ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        minutes: Wall time to which the training is fitted, with its schedules, see
            :func:`~mae_toolkit.engine.minutes.fit_to_minutes`. A training that is resumed keeps its length.
        profile: First step that is profiled and the one after the last, counted from this start; none if None. See
            :class:`~mae_toolkit.engine.hooks.ProfileHook`.
        total_batch_size: Images of an iteration over all processes, in place of ``train_dataloader.batch_size``, so
            that a training can be resumed with another number of processes; that of the config if None.
        allow_changed_config: Resume although the config differs from that of the checkpoint in what changes results.

    Raises:
        UserError: If the folder holds another run, another process trains in it, or a setting cannot be followed.
        Preempted: If the training was told to stop, see :class:`~mae_toolkit.engine.preemption.Preempted`.
    """
    hooks = [] if profile is None else [ProfileHook(*profile)]
    cfg = copy.deepcopy(cfg)
    cfg.launcher = launcher
    cfg.work_dir = choose_work_dir(cfg, work_dir)
    init_distributed(cfg.launcher, cfg.get('env_cfg'), cfg.work_dir)
    if resume is None and count_restarts(os.environ):
        resume = 'auto'
    share_batch(cfg, total_batch_size)
    if amp:
        use_mixed_precision(cfg)
    _check_float16(cfg)
    _warn_of_slow_bfloat16(cfg)
    scale_lr(cfg, auto_scale_lr)
    with enter_work_dir(cfg.work_dir, resume):
        _train(cfg, resume, minutes, allow_changed_config, hooks)


def _train(
    cfg: Config, resume: str | None, minutes: float | None, allow_changed_config: bool, hooks: Sequence[Hook]
) -> None:
    """Train in a work directory that no other process writes to."""
    cfg.resume = 'auto' if resume == 'auto' else resume is not None
    if resume not in (None, 'auto'):
        cfg.load_from = resume
    if minutes is not None:
        fit_to_minutes(cfg, cfg.work_dir, minutes)
    elif resume is not None:
        restore_length(cfg, cfg.work_dir)

    def build() -> Runner:
        runner = Runner.from_cfg(cfg)
        if resume is not None:
            runner.register_hook(CheckpointOriginHook(cfg, allow_changes=allow_changed_config))
        for hook in hooks:
            runner.register_hook(hook)
        return runner

    with record_failure(cfg.work_dir):
        runner = train_past_spikes(cfg, build)
    if is_main_process():
        print(summarize_run(runner.work_dir), file=sys.stderr)


def test(
    cfg: Config,
    checkpoint: str | Path,
    work_dir: str | Path | None = None,
    launcher: str = 'none',
    split: str | None = None,
) -> dict[str, float]:
    """Measure a checkpoint on held-out images: metrics, or losses under masks that the seed of the loop fixes.

    Tables of the evaluator, such as the IoU of each class, are printed.

    Args:
        cfg: What :func:`load_config` returns; it is not changed.
        checkpoint: The weights.
        work_dir: See :func:`train`.
        launcher: See :func:`train`.
        split: ``'test'`` or ``'val'``; if None, test, or val where the config has no ``test_dataloader``.

    Returns:
        The metrics of the evaluator by name, NaN where the images have nothing to measure one on; or the mean loss of
        each objective, and their sum as ``loss``.

    Raises:
        UserError: If there are no such images, the checkpoint was trained on other classes, or a loss is not finite.
    """
    given, cfg = cfg, copy.deepcopy(cfg)
    cfg.launcher, cfg.load_from, cfg.resume = launcher, str(checkpoint), False
    cfg.work_dir = choose_work_dir(cfg, work_dir)
    init_distributed(cfg.launcher, cfg.get('env_cfg'), cfg.work_dir)
    split = split or ('val' if cfg.get('test_dataloader') is None else 'test')
    if cfg.get(f'{split}_dataloader') is None:
        raise _no_images_error(cfg, split)
    if split == 'val':
        cfg.test_dataloader, cfg.test_evaluator = cfg.val_dataloader, cfg.get('val_evaluator')
        loop = dict(cfg.get('val_cfg') or {})
        cfg.test_cfg = loop | {'type': loop.get('type', 'MAEValLoop').replace('ValLoop', 'TestLoop')}
    runner = Runner.from_cfg(cfg)
    runner.register_hook(CheckpointOriginHook(given, split))
    with printed_tables(runner.logger):
        numbers = {name: float(value) for name, value in runner.test().items()}  # MMSegmentation's are NumPy's
    if is_main_process():
        print(_describe_images(split, runner.test_dataloader.dataset))
    if cfg.get('test_evaluator'):
        return {name: mark_missing(name, value) for name, value in numbers.items()}
    bad = [name for name, value in numbers.items() if not math.isfinite(value)]
    if bad:
        raise UserError(f'{", ".join(bad)} is not finite; the log names the images: look at them, or at the weights.')
    return numbers


def _no_images_error(cfg: Config, split: str) -> UserError:
    other = {'val': 'test', 'test': 'val'}[split]
    if cfg.get(f'{other}_dataloader') is None:
        return UserError('The config has neither test_dataloader nor val_dataloader: name held-out images.')
    return UserError(f'The config has no {split}_dataloader: test on --split {other}, or name held-out images.')


def _describe_images(split: str, dataset: Any) -> str:
    """Name the split, the number of its images, and where they are."""
    folders = [getattr(dataset, name, None) for name in ('ann_file', 'root', 'data_root')]
    images = (getattr(dataset, 'data_prefix', None) or {}).get('img_path')  # MMSegmentation's, which has no list
    where = folders[0] or images or folders[1] or folders[2]
    return f'{split}: {format_count(len(dataset), "image")}' + (f' of {where}' if where else '')


def choose_work_dir(cfg: Config, work_dir: str | Path | None = None) -> str:
    """Return the folder for everything that a run writes.

    Args:
        cfg: The config; its ``work_dir`` is used, or ``work_dirs/<name of the config>`` if it has none.
        work_dir: Used instead, if given.

    Raises:
        UserError: If the name is empty or not a path.
    """
    for name, folder in (('--work-dir', work_dir), ('work_dir', cfg.get('work_dir'))):
        if folder is not None and not (isinstance(folder, str | Path) and str(folder).strip()):
            raise UserError(f'{name} is {folder!r}: name a folder, or leave it out for work_dirs/<config>.')
    named = work_dir or cfg.get('work_dir')
    return str(named or Path('work_dirs') / Path(cfg.filename or 'run').stem)


def use_mixed_precision(cfg: Config, on_gpu: bool | None = None) -> None:
    """Replace the optimizer wrapper of a config by one for mixed precision, in place.

    It autocasts to bfloat16, and for detectors to float16: MMDetection rounds boxes to the type of its maps, and
    bfloat16 has steps of 4 pixels between 512 and 1024. Wrappers other than MMEngine's own stay.

    Args:
        cfg: The config.
        on_gpu: Whether it is trained on a GPU; whether this machine has one if None.

    Raises:
        UserError: If a detector is to be trained without a GPU.
    """
    if cfg.optim_wrapper.get('type', 'OptimWrapper') not in ('OptimWrapper', 'AmpOptimWrapper'):
        return
    if cfg.get('default_scope') != 'mmdet':
        cfg.optim_wrapper.pop('loss_scale', None)
        cfg.optim_wrapper.update(type=f'{SCOPE}.AutocastOptimWrapper', dtype='bfloat16')
    elif torch.cuda.is_available() if on_gpu is None else on_gpu:
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
    else:
        raise UserError(
            '--amp: without a GPU it would be in bfloat16, to which MMDetection would round boxes, by up to 2 pixels '
            'in images of 1024: train detectors on CPUs without it.'
        )


def _check_float16(cfg: Config) -> None:
    """Refuse to train in float16 without a GPU."""
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and not torch.cuda.is_available():
        detector = cfg.get('default_scope') == 'mmdet'
        remedy = '--cfg-options optim_wrapper.type=OptimWrapper for float32' if detector else '--amp for bfloat16'
        raise UserError(
            'The config trains in float16 (AmpOptimWrapper), which needs a GPU, and torch finds none: add '
            f'{remedy}, which CPUs can, too.'
        )


def _warn_of_slow_bfloat16(cfg: Config) -> None:
    """Warn of bfloat16 on a CPU without instructions for it, where a step takes many times as long."""
    wrapper = cfg.optim_wrapper
    is_mixed = str(wrapper.get('type')).endswith('AutocastOptimWrapper') and wrapper.get('dtype') != 'float32'
    if is_mixed and not torch.cuda.is_available() and not multiplies_bfloat16_fast('cpu'):
        print_log(
            'The config computes in bfloat16, in which this CPU is slower than in float32: set optim_wrapper.dtype, or '
            'precision in a config of custom/, to float32.',
            'current',
            logging.WARNING,
        )


def scale_lr(cfg: Config, requested: bool = False, processes: int | None = None) -> None:
    """Scale the learning rate of a config by images per step / ``auto_scale_lr.base_batch_size``, in place.

    The images per step are those of all processes and accumulated iterations. ``auto_scale_lr`` is removed from the
    config, so that MMEngine does not scale a second time.

    Args:
        cfg: The config; nothing is scaled unless it says ``auto_scale_lr.enable=True``, or ``requested`` is set.
        requested: Scale in any case.
        processes: Number of processes; that of this run if None.

    Raises:
        UserError: If scaling is requested and the config has no ``base_batch_size``.
    """
    rule = cfg.pop('auto_scale_lr', None) or {}
    if not (requested or rule.get('enable')):
        return
    if 'base_batch_size' not in rule:
        raise UserError('--auto-scale-lr: the config needs auto_scale_lr=dict(base_batch_size=...) to scale from.')
    steps = cfg.optim_wrapper.get('accumulative_counts', 1)
    batch = cfg.train_dataloader.batch_size * (processes or get_world_size()) * steps
    cfg.optim_wrapper.optimizer.lr *= batch / rule['base_batch_size']


def summarize_run(work_dir: str | Path) -> str:
    """Summarize in a few lines what a run wrote, and how its loss changed.

    Args:
        work_dir: The folder of the run.
    """
    work_dir = Path(work_dir)
    loss = list(read_scalars(work_dir).get('train/loss', {}).values())
    lines = [f'loss {loss[0]:.4f} at first, {loss[-1]:.4f} at last'] if loss else []
    watch = read_watch(work_dir)
    lines += [] if watch is None else [f'watch: {watch.describe()}', *watch.make_table()]
    written = {
        'checkpoint': newest_checkpoint(work_dir),
        'loss curve': work_dir / 'loss.png',
        'reconstructions': work_dir / 'reconstruction.png',
    }
    lines += [f'{name}: {path}' for name, path in written.items() if path is not None and path.exists()]
    return '\n'.join(lines)
