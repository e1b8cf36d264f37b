"""Pretrain several configs, each for the same time, and measure what their encoders are worth."""

import copy
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.runner import set_random_seed
from torch.utils.data import DataLoader

from mae_toolkit.checkpoints.files import newest_checkpoint
from mae_toolkit.datasets import ImageDataset
from mae_toolkit.datasets.archives import list_classes
from mae_toolkit.datasets.collate import image_collate
from mae_toolkit.engine.locks import reserve_work_dir
from mae_toolkit.engine.minutes import check_minutes, fit_to_minutes
from mae_toolkit.engine.runner import Runner
from mae_toolkit.evaluation import compute_knn_accuracy, extract_last_maps, recalibrate_batch_norm
from mae_toolkit.evaluation.batch_norm import find_batch_norms, has_statistics
from mae_toolkit.evaluation.probes.attentive import run_attentive
from mae_toolkit.evaluation.probes.data import Part, ProbeData, hold_out
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.models.build import build_model
from mae_toolkit.transfer.markdown import escape_markdown
from mae_toolkit.transfer.records import Record
from mae_toolkit.visualization import read_scalars

EPOCHS = 30  # of the attentive probe


@dataclass(frozen=True)
class Comparison(Record):
    """Result of pretraining a config for some minutes, as in ``result.json``.

    Attributes:
        name: Name of the config.
        loss: The first and the last that was logged.
        knn: Accuracy of the nearest neighbors, between 0 and 1, before and after the pretraining.
        images_per_s: Images per second of training.
        epochs: Length of the training.
        minutes: Length of the training.
        parameters: Number of the encoder's parameters.
        attentive: Accuracy of an attentive probe of the last map, before and after; None in files that are older.
    """

    name: str
    loss: tuple[float, float]
    knn: tuple[float, float]
    images_per_s: float
    epochs: float
    minutes: float
    parameters: int
    attentive: tuple[float, float] | None = None


def compare(cfgs: Mapping[str, Config | None], out: str | Path, minutes: float, labels: str | Path) -> list[Comparison]:
    """Train every config for about so many minutes and evaluate its encoder; what is in ``out`` already is not redone.

    Args:
        cfgs: Configs by name.
        out: Gets a folder per config, with its run and ``result.json``.
        minutes: Minutes of training per config, above 0 and up to a year.
        labels: Folder with ``train/<class>`` and ``test/<class>``, for the nearest neighbors.

    Raises:
        UserError: If ``minutes`` is no time to train, another process trains in a folder, or a file there is damaged.
    """
    check_minutes(minutes)
    results = []
    for name, cfg in cfgs.items():
        folder = Path(out) / name
        with reserve_work_dir(folder):
            result = Comparison.read(folder / 'result.json')
            if result is None:
                result = _pretrain(name, cfg, folder, minutes, labels)
                result.write(folder / 'result.json')
        results.append(result)
    return results


def write_comparison(results: Iterable[Comparison]) -> str:
    """Write the results as a table in Markdown."""
    lines = [
        '| config | encoder M | images/s | epochs | minutes | loss first, last | kNN before, after % '
        '| attentive before, after % |',
        '|---|---|---|---|---|---|---|---|',
    ]
    for r in results:
        attentive = '' if r.attentive is None else f'{100 * r.attentive[0]:.1f}, {100 * r.attentive[1]:.1f}'
        lines.append(
            f'| {escape_markdown(r.name)} | {r.parameters / 1e6:.1f} | {r.images_per_s:.0f} | {r.epochs:.1f} '
            f'| {r.minutes:.1f} | {r.loss[0]:.3f}, {r.loss[1]:.3f} | {100 * r.knn[0]:.1f}, {100 * r.knn[1]:.1f} '
            f'| {attentive} |'
        )
    return '\n'.join(lines)


def _pretrain(name: str, cfg: Config, work_dir: Path, minutes: float, labels: str | Path) -> Comparison:
    cfg = copy.deepcopy(cfg)
    cfg.launcher = 'none'
    length = fit_to_minutes(cfg, work_dir, minutes)
    cfg.default_hooks.logger.interval = max(1, min(10, length.steps // 4))
    cfg.work_dir, cfg.resume = str(work_dir), 'auto' if newest_checkpoint(work_dir) else False
    set_random_seed(cfg.randomness.seed)
    untrained: Any = build_model(cfg).to(get_device())
    untrained.init_weights()
    before = _measure(untrained, cfg, labels)
    runner = Runner.from_cfg(cfg)
    model = runner.train()
    scalars = read_scalars(work_dir)
    after = _measure(model, cfg, labels)
    loss, seconds = scalars['train/loss'], median(scalars['train/time'].values())  # seconds per step
    return Comparison(
        name,
        loss=(loss[min(loss)], loss[max(loss)]),
        knn=(before[0], after[0]),
        attentive=(before[1], after[1]),
        images_per_s=cfg.train_dataloader.batch_size / seconds,
        epochs=round(length.steps / length.iterations_per_epoch, 2),
        minutes=runner.max_iters * seconds / 60,
        parameters=sum(p.numel() for p in model.encoder.parameters()),
    )


def _measure(model: MaskedAutoencoder, cfg: Config, labels: str | Path) -> tuple[float, float]:
    """Measure the accuracy of nearest neighbors and of an attentive probe of labeled images, at the training's size."""
    crop = cfg.train_dataloader.dataset.pipeline[0].size
    pipeline = [dict(type='Resize', size=crop), dict(type='CenterCrop', size=crop)]
    maps, targets = {}, {}
    known: dict[str, int] = {}
    for split in ('train', 'test'):
        dataset = ImageDataset(labels, pipeline, split=split, channels=model.encoder.in_chans)
        loader = DataLoader(dataset, batch_size=64, collate_fn=image_collate)
        if not all(map(has_statistics, find_batch_norms(model.encoder).values())):  # of a model that is not trained yet
            recalibrate_batch_norm(model, loader, len(dataset))
        maps[split] = extract_last_maps(model, loader)
        targets[split] = torch.tensor([known.setdefault(c, len(known)) for c in list_classes(labels, split)])
    vectors = {split: x.mean((2, 3)) for split, x in maps.items()}
    knn = compute_knn_accuracy(vectors['train'], targets['train'], vectors['test'], targets['test'])
    train, test = (Part(maps[split], targets[split]) for split in ('train', 'test'))
    data = ProbeData(train, test, test, len(known), hold_out(train.labels.tolist(), 0))  # nothing is chosen on the test
    return knn, run_attentive(data, epochs=EPOCHS).test['accuracy']
