"""Pretraining of several configs, each for the same time, and what their encoders are worth."""

import json
import time
from pathlib import Path
from statistics import median

import torch
from mmengine.device import get_device
from mmengine.runner import set_random_seed
from torch.utils.data import DataLoader

from mae_toolkit.checkpoints.files import newest_checkpoint
from mae_toolkit.datasets import ImageDataset
from mae_toolkit.datasets.archives import classes_of
from mae_toolkit.datasets.collate import image_collate
from mae_toolkit.engine.locks import reserve_work_dir
from mae_toolkit.engine.runner import Runner
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation import compute_knn_accuracy, extract_pooled_features
from mae_toolkit.files import atomic_write
from mae_toolkit.models.build import build_model
from mae_toolkit.transfer.markdown import escape_markdown
from mae_toolkit.transfer.records import NUMBER, read_record
from mae_toolkit.visualization import read_scalars

PROBE = 12  # steps whose time decides how many epochs fit
MOST_MINUTES = 525_600
RESULT = {
    'name': str,
    'loss': [NUMBER, NUMBER],
    'knn': [NUMBER, NUMBER],
    'images_per_s': NUMBER,
    'epochs': int,
    'minutes': NUMBER,
    'parameters': int,
}


def compare(cfgs, out, minutes, labels):
    """Train every config for about so many minutes and evaluate its encoder; what is in ``out`` already is not redone.

    Args:
        cfgs (dict[str, Config]): By name.
        out (str | Path): Gets a folder per config, with its run and ``result.json``.
        minutes (float): Of training, per config; above 0 and below a year.
        labels (str | Path): Holds ``train/<class>`` and ``test/<class>``, for the nearest neighbors.

    Returns:
        list[dict]: Per config: ``name``, ``loss`` (at first and at last), ``knn`` (before and after), ``images_per_s``,
        ``epochs``, ``minutes``, ``parameters`` of the encoder.

    Raises:
        UserError: If ``minutes`` is no time to train, another process trains in a folder, or a file there is damaged.
    """
    if not 0 < minutes <= MOST_MINUTES:
        raise UserError(f'--minutes {minutes} is no time to train: give more than 0 and up to {MOST_MINUTES}, a year.')
    results = []
    for name, cfg in cfgs.items():
        folder = Path(out) / name
        with reserve_work_dir(folder):
            result = read_record(folder / 'result.json', RESULT)
            if result is None:
                result = {'name': name, **_run(cfg, folder, minutes, labels)}
                atomic_write(folder / 'result.json', json.dumps(result, indent=2) + '\n')
        results.append(result)
    return results


def table(results):
    """The results in Markdown."""
    lines = [
        '| config | encoder M | images/s | epochs | minutes | loss first, last | kNN before, after % |',
        '|---|---|---|---|---|---|---|',
    ]
    for r in results:
        lines.append(
            f'| {escape_markdown(r["name"])} | {r["parameters"] / 1e6:.1f} | {r["images_per_s"]:.0f} | {r["epochs"]} '
            f'| {r["minutes"]:.1f} | {r["loss"][0]:.3f}, {r["loss"][1]:.3f} '
            f'| {100 * r["knn"][0]:.1f}, {100 * r["knn"][1]:.1f} |'
        )
    return '\n'.join(lines)


def _run(cfg, work_dir, minutes, labels):
    cfg = cfg.copy()
    cfg.launcher, cfg.default_hooks.logger.interval = 'none', 10
    epochs = _epochs(cfg, work_dir, minutes)
    cfg.train_cfg.max_epochs = cfg.train_cfg.val_interval = epochs
    cfg.work_dir, cfg.resume = str(work_dir), 'auto' if newest_checkpoint(work_dir) else False
    set_random_seed(cfg.randomness.seed)
    untrained = build_model(cfg).to(get_device())
    untrained.init_weights()
    before = _knn(untrained, cfg, labels)
    runner = Runner.from_cfg(cfg)
    model = runner.train()
    loss = read_scalars(work_dir)['train/loss']
    seconds = median(read_scalars(work_dir)['train/time'].values())  # per step
    return {
        'loss': [loss[min(loss)], loss[max(loss)]],
        'knn': [before, _knn(model, cfg, labels)],
        'images_per_s': cfg.train_dataloader.batch_size / seconds,
        'epochs': epochs,
        'minutes': runner.max_iters * seconds / 60,
        'parameters': sum(p.numel() for p in model.encoder.parameters()),
    }


def _epochs(cfg, work_dir, minutes):
    """How many epochs fit into the time: measured once, and kept for a run that is resumed."""
    file = work_dir / 'plan.json'
    plan = read_record(file, {'epochs': int, 'seconds_per_step': NUMBER})
    if plan is None:
        probe = cfg.copy()
        probe.work_dir = str(work_dir / 'probe')
        seconds, batches = _seconds_per_step(probe)
        epochs = max(2, round(60 * minutes / seconds / batches))
        plan = {'epochs': epochs, 'seconds_per_step': seconds}
        atomic_write(file, json.dumps(plan) + '\n')
    return plan['epochs']


def _seconds_per_step(cfg):
    """Median seconds of a training step with its data, and steps per epoch."""
    runner = Runner.from_cfg(cfg)
    loader = runner.build_dataloader(cfg.train_dataloader)
    optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    times, before = [], time.perf_counter()
    for _, batch in zip(range(PROBE), loader):
        runner.model.train_step(batch, optim_wrapper)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        times.append(now - before)
        before = now
    return median(times[len(times) // 3 :]), len(loader)


def _knn(model, cfg, labels):
    """Accuracy of the nearest neighbors among labeled images, at the size of training."""
    crop = cfg.train_dataloader.dataset.pipeline[0].size
    pipeline = [dict(type='Resize', size=crop), dict(type='CenterCrop', size=crop)]
    features, targets, known = {}, {}, {}
    for split in ('train', 'test'):
        dataset = ImageDataset(labels, pipeline, split=split, channels=model.encoder.in_chans)
        loader = DataLoader(dataset, batch_size=64, collate_fn=image_collate)
        features[split] = extract_pooled_features(model, loader)
        targets[split] = torch.tensor([known.setdefault(c, len(known)) for c in classes_of(labels, split)])
    return compute_knn_accuracy(features['train'], targets['train'], features['test'], targets['test'])
