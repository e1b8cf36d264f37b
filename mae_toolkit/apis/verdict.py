"""The end of a pretraining in words: what was learned, what the watch says, and what to try."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from statistics import mean
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from torch import Tensor
from torch.utils.data import DataLoader

from mae_toolkit.checkpoints.files import newest_checkpoint
from mae_toolkit.datasets import ImageDataset, image_collate
from mae_toolkit.engine.loops import draw_fixed_masks
from mae_toolkit.engine.watch_record import WatchRecord, read_watch
from mae_toolkit.evaluation.reconstruction import MOST_JUDGED, ReconstructionScore, measure_reconstruction
from mae_toolkit.files import atomic_write
from mae_toolkit.models.build import model_from_checkpoint
from mae_toolkit.printing import format_count
from mae_toolkit.visualization import read_scalars

FILE = 'verdict.json'
NOTHING, LITTLE = 0.02, 0.15  # shares of the variance
FLAT = 0.15  # of the target's deviation within patches
FALLING = 0.01  # share by which the loss falls in the last quarter of a training that should go on
FEWEST_LOSSES = 8  # logged losses that show a course
MEMORIZED = 1.25  # loss of held-out images relative to that of training


def judge(cfg: Config, work_dir: str | Path) -> list[str]:
    """Say in sentences what a pretraining has learned, and write them with their numbers into ``verdict.json``.

    Args:
        cfg: The config of the pretraining, with held-out images in its ``val_dataloader``.
        work_dir: Its folder.
    """
    work_dir = Path(work_dir)
    checkpoint = newest_checkpoint(work_dir)
    assert checkpoint is not None, work_dir
    model: Any = model_from_checkpoint(cfg, checkpoint, masked=True).to(get_device())
    score = measure_reconstruction(model, _iterate(model, cfg))
    losses = list(read_scalars(work_dir).get('train/loss', {}).values())
    watch = read_watch(work_dir)
    sentences = [*_describe_score(score), *_describe_course(score, losses), *_describe_watch(watch)]
    sentences += _suggest(score, losses, watch)
    numbers = asdict(score) | {'explained': score.explained, 'checkpoint': checkpoint.name, 'sentences': sentences}
    atomic_write(work_dir / FILE, json.dumps(numbers, indent=1) + '\n')
    return sentences


def _iterate(model: Any, cfg: Config) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield held-out images and their masks, the same for every model."""
    loader = cfg.val_dataloader
    given = {key: value for key, value in loader.dataset.items() if key != 'type'}
    dataset = ImageDataset(**given)
    chosen = torch.utils.data.Subset(dataset, range(min(MOST_JUDGED, len(dataset))))
    done = 0
    for batch in DataLoader(chosen, loader.batch_size, collate_fn=image_collate):
        imgs = model.data_preprocessor(batch, False)['imgs']
        yield imgs, draw_fixed_masks(model.masking, imgs, range(done, done + len(imgs)))
        done += len(imgs)


def _describe_score(score: ReconstructionScore) -> Iterator[str]:
    compared = f'{abs(score.explained):.0%} {"less" if score.explained >= 0 else "more"}'
    yield (
        f'Hidden pixels of {format_count(score.images, "held-out image")} are predicted with a loss of '
        f'{score.loss:.3f}, {compared} than the {score.loss_of_mean:.3f} of their mean color.'
    )
    if score.texture is not None and score.texture < FLAT:
        yield (
            'Each hidden patch is predicted in nearly one flat color (its pixels vary by '
            f'{score.texture:.0%} of what they should): the model does not know textures yet.'
        )
    if score.explained < NOTHING:
        yield 'So the model has learned next to nothing yet, and its encoder is about what it was at the start.'
    elif score.explained < LITTLE:
        yield 'So the model has begun to learn, and is far from done.'


def _describe_course(score: ReconstructionScore, losses: list[float]) -> Iterator[str]:
    if len(losses) < FEWEST_LOSSES:
        return
    begin, end = mean(losses[: len(losses) // 8 or 1]), mean(losses[-(len(losses) // 8 or 1) :])
    yield f'In training the loss went from {begin:.3f} to {end:.3f}.'
    if score.loss > MEMORIZED * end and score.explained > NOTHING:
        yield 'Held-out images are predicted much worse than those of the training, which are few and learned by heart.'


def _suggest(score: ReconstructionScore, losses: list[float], watch: WatchRecord | None = None) -> Iterator[str]:
    if watch is not None and watch.rows and not watch.from_scratch and watch.is_worse():
        yield (
            'A lower loss is no better encoder: begin again with a lower rate of the encoder (--cfg-options '
            'encoder_lr=0.01), or use the weights with which it began.'
        )
    elif len(losses) < FEWEST_LOSSES:
        yield 'These are very few steps: train longer (--minutes or --epochs).'
    elif _is_falling(losses):
        yield 'The loss was still falling at the end: train longer (--minutes or --epochs).'
    elif score.explained < LITTLE:
        yield (
            'The loss no longer falls, and is hardly below that of the mean color: train longer, try a higher learning '
            'rate (--cfg-options base_lr=…), or begin with public weights (--from).'
        )
    yield 'Look at reconstruction.png; whether the encoder is worth it, a detector or classifier trained from it tells.'


def _is_falling(losses: list[float]) -> bool:
    """Return whether the loss fell from the third quarter of a training to the last one, by more than a hundredth.

    Within the last quarter it hardly falls in any training, as the learning rate goes to zero.
    """
    quarter = len(losses) // 4
    before, after = mean(losses[-2 * quarter : -quarter]), mean(losses[-quarter:])
    return after < (1 - FALLING) * before


def _describe_watch(record: WatchRecord | None) -> Iterator[str]:
    """Say what the watch has seen: of each step at which the encoder was measured on whole images."""
    if record is None or not record.rows:
        return
    kind = 'labeled images' if record.labels else 'patches of the images themselves (which does not compare encoders)'
    yield f'The watch, by {kind}: {record.describe()}.'
    if record.from_scratch:
        if record.is_worse():
            yield (
                'That is below an untrained encoder of the same architecture: such measures rise late, so train longer '
                '(--minutes or --epochs) before you judge by them.'
            )
        return
    if record.is_worse():
        yield 'So the encoder is worse than at its start: use the weights of its best step, not the last ones.'
    elif record.is_collapsing():
        yield 'The features of images have lost half of their directions: they collapse.'
