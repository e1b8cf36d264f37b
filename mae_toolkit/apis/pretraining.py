"""Pretrain an encoder on a folder of images, with settings that follow from the images and the device."""

from __future__ import annotations

import json
import os
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.apis.run_checks import (
    CONFIG,
    MARK,
    check_new_run,
    check_resumed,
    check_resumed_minutes,
    refuse_minutes,
)
from mae_toolkit.apis.training import train
from mae_toolkit.apis.verdict import judge
from mae_toolkit.config import load_config
from mae_toolkit.datasets.fingerprint import Fingerprint, take_fingerprint
from mae_toolkit.datasets.image_files import contains_images, list_images
from mae_toolkit.datasets.labels.belonging import refuse_unreadable
from mae_toolkit.engine.minutes import check_minutes
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.labeled_images import read_labeled_set
from mae_toolkit.export.known_encoder import read_known_encoder
from mae_toolkit.files import atomic_write
from mae_toolkit.planning.architectures import EncoderFacts, check_weights, look_up_encoder
from mae_toolkit.planning.device import find_device
from mae_toolkit.planning.encoders import find_architecture, make_absolute
from mae_toolkit.planning.images import check_images, check_size
from mae_toolkit.planning.minutes import TimeLimit, describe_time
from mae_toolkit.planning.pretraining import PretrainingPlan, PretrainingWishes
from mae_toolkit.planning.table import describe_fingerprint, describe_knobs, format_table
from mae_toolkit.printing import format_count, printable, some

FINGERPRINT = 'fingerprint.json'


def pretrain(
    folder: str | Path,
    encoder: str | None = None,
    out: str | Path = 'runs/pretraining',
    weights: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    size: int | tuple[int, int] | None = None,
    labels: str | Path | None = None,
    channels_rule: str | None = None,
    resume: bool = False,
    cfg_options: Mapping[str, Any] | None = None,
    began: float | None = None,
) -> None:
    """Pretrain an encoder on a folder of images.

    The images are looked at, steps are tried on the device, and a config that needs no other file is written into
    ``out`` with a reason behind every setting; training goes by that config.

    Example::

        pretrain('photos', 'convnextv2_tiny', 'runs/photos', minutes=60)

    Args:
        folder: The images, with subfolders.
        encoder: Architecture of timm, such as ``'convnextv2_tiny'``; that of the weights if None.
        out: Folder for the config, checkpoints, logs and pictures.
        weights: What the encoder begins with, ``[FORMAT:]FILE[#PART]``; random weights if None.
        epochs: How often each image is seen; chosen by the number of images if None.
        minutes: Wall time of the whole command, from reading the images to the verdict; the number of steps that fit
            into it is written into the config.
        size: Pixels of the crops; chosen by the images and the device if None.
        labels: Labeled images by which the encoder is watched: class folders with or without splits, a CSV, or a folder
            of images and masks; without them, patches of the images themselves are compared.
        channels_rule: How weights for another number of channels are converted: ``'sum'``, ``'mean'`` or ``'first'``.
        resume: Continue the run in ``out``.
        cfg_options: Settings of the config that replace those that are chosen.
        began: Time of ``time.perf_counter`` from which the minutes count; that of the call if None.

    Raises:
        UserError: If the folder has no usable images, ``out`` holds another run, or a wish cannot be followed.
    """
    if not str(folder):
        raise UserError('The name of the folder of images is empty: give the folder.')
    folder, config, began = Path(folder), Path(out) / CONFIG, time.perf_counter() if began is None else began
    limit = None
    if minutes is not None:
        check_minutes(minutes)
        limit = TimeLimit(minutes, began)
    refuse_minutes(cfg_options)
    if resume:
        wanted = dict(data_root=folder, arch=encoder, weights=weights, size=size, epochs=epochs, labels=labels)
        _resume(config, wanted | dict(channels_rule=channels_rule), minutes, cfg_options)
        return
    out = check_new_run(out, folder)
    facts = _look_up(encoder, weights)
    check_size(facts, size)
    labels = _check_labels(labels)
    weights = _check_weights(facts, weights, channels_rule, cfg_options)
    fingerprint = _look_at(folder)
    check_images(fingerprint, folder)
    wishes = PretrainingWishes(folder, weights, channels_rule, size, epochs, limit, labels, cfg_options)
    plan = PretrainingPlan(fingerprint, facts, find_device(), wishes, config, _describe_run(folder, out))
    atomic_write(out / FINGERPRINT, json.dumps(fingerprint.to_dict(), indent=1) + '\n')
    cfg = _write_plan(plan, config)
    train(cfg, out)
    _print_verdict(cfg, out)
    print(describe_time(began, limit))


def _look_up(encoder: str | None, weights: str | None) -> EncoderFacts:
    """Find out what is known of the encoder: by its name, or by that in the weights."""
    if encoder is None and weights is None:
        raise UserError('No encoder is named: give an architecture of timm, such as --encoder convnextv2_tiny.')
    known = None if weights is None else read_known_encoder(weights)
    return look_up_encoder(encoder or find_architecture(str(weights), known), known)


def _check_weights(
    facts: EncoderFacts, weights: str | None, channels_rule: str | None, cfg_options: Mapping[str, Any] | None
) -> str | None:
    """Check that weights fit the encoder, and name them so that they are found from any folder."""
    if weights is None:
        return None
    weights = make_absolute(weights)
    if not any(key.startswith('model.encoder') for key in cfg_options or {}):  # which may change its shape
        check_weights(facts, weights, channels_rule)
    return weights


def _write_plan(plan: PretrainingPlan, config: Path) -> Config:
    """Try steps on the device, write the config, and print what was chosen and why."""
    plan.try_steps()
    plan.write()
    print(f'What is trained, and why ({config}):\n')
    print(format_table(describe_knobs(plan.list_settings())) + '\n')
    print(''.join(f'Note: {note}\n\n' for note in plan.list_notes()), end='', flush=True)
    return load_config(config)


def _resume(config: Path, wanted: dict[str, Any], minutes: float | None, cfg_options: Mapping[str, Any] | None) -> None:
    """Go on with the run of a config, if it began with what is wanted."""
    if not config.is_file():
        raise UserError(
            f'{config.parent} holds no {CONFIG} of a run that could be resumed: leave --resume out to begin one.'
        )
    cfg = load_config(config)
    check_resumed_minutes(cfg, config, minutes)
    repeat, epochs = cfg.get('repeat', 1), wanted['epochs']
    check_resumed(
        cfg,
        config,
        wanted
        | dict(data_root=str(wanted['data_root'].resolve()), labels=_make_resolved(wanted['labels']))
        | dict(weights=wanted['weights'] and make_absolute(wanted['weights']))
        | dict(epochs=None if epochs and max(1, epochs // repeat) * repeat == cfg.epochs else epochs),
    )
    cfg = load_config(config, cfg_options)
    train(cfg, config.parent, resume='auto')
    _print_verdict(cfg, config.parent)


def _print_verdict(cfg: Config, out: Path) -> None:
    if cfg.get('val_dataloader') is not None:
        print('\n' + '\n'.join(judge(cfg, out)))


def _look_at(folder: Path) -> Fingerprint:
    """Take the fingerprint of a folder, and print it.

    Raises:
        UserError: If there is no such folder, or no image in it.
    """
    if not folder.is_dir():
        raise UserError(f'There is no folder {folder}: give the folder that holds the images.')
    if not contains_images(folder):
        raise UserError(f'{folder} has no images{_describe_others(folder)}')
    fingerprint = take_fingerprint(folder, list_images(folder))
    print(f'What is in {folder}:\n\n{format_table(describe_fingerprint(fingerprint))}\n', flush=True)
    return fingerprint


def _describe_others(folder: Path) -> str:
    """Say what a folder without images holds: the most frequent suffixes of its files."""
    suffixes = Counter(
        Path(name).suffix.lower() or 'without a suffix' for _, _, names in os.walk(folder) for name in names
    )
    if not suffixes:
        return ': it is empty.'
    if suffixes.keys() & {'.tar', '.lmdb', '.mdb'}:
        return (
            ': it holds shards, which are trained on by tools/train.py configs/pretrain/custom/vit.py --cfg-options '
            'shards=FOLDER, or another config there.'
        )
    kinds = some([f'{count:,} {suffix}' for suffix, count in suffixes.most_common()], 4)
    return f' of a format that is read: it holds {format_count(sum(suffixes.values()), "file")} ({kinds}).'


def _check_labels(labels: str | Path | None) -> str | None:
    """Check a folder of labeled images, and return its whole path, by which it is found from any folder."""
    if labels is None:
        return None
    refuse_unreadable(labels, read_labeled_set(labels).images)
    return _make_resolved(labels)


def _make_resolved(path: str | Path | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def _describe_run(folder: Path, out: Path) -> str:
    return (
        f'{MARK} pretrain for {printable(folder)}. Change what you like, and train by a copy of this file:\n'
        f'python tools/train.py {printable(out / CONFIG)} --work-dir ANOTHER_FOLDER, or, without the repository,\n'
        'from mae_toolkit.apis import load_config, train'
    )
