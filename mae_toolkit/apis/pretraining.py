"""Pretrain an encoder on a folder of images, with settings that follow from the images and the device."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from mae_toolkit.apis.training import train
from mae_toolkit.apis.verdict import judge
from mae_toolkit.config import load_config
from mae_toolkit.datasets.fingerprint import Fingerprint, take_fingerprint
from mae_toolkit.datasets.image_files import contains_images, list_images
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.planning.architectures import look_up_encoder
from mae_toolkit.planning.device import find_device
from mae_toolkit.planning.encoders import choose_encoder, make_absolute
from mae_toolkit.planning.images import check_images
from mae_toolkit.planning.pretraining import PretrainingPlan, Wishes
from mae_toolkit.planning.table import describe_fingerprint, describe_knobs, format_table
from mae_toolkit.printing import format_count, printable, some

CONFIG, FINGERPRINT = 'config.py', 'fingerprint.json'


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
        minutes: How long the training may take.
        size: Pixels of the crops; chosen by the images and the device if None.
        labels: Folder of labeled images (``train/<class>`` and ``test/<class>``, or class folders), by whose nearest
            neighbors the encoder is watched; without one, patches of the images themselves are compared.
        channels_rule: How weights for another number of channels are converted: ``'sum'``, ``'mean'`` or ``'first'``.
        resume: Continue the run in ``out``.
        cfg_options: Settings of the config that replace those that are chosen.

    Raises:
        UserError: If the folder has no usable images, ``out`` holds another run, or a wish cannot be followed.
    """
    out = Path(out)
    config = out / CONFIG
    if resume:
        if not config.is_file():
            raise UserError(f'{out} holds no {CONFIG} of a run that could be resumed: leave --resume out to begin one.')
        cfg = load_config(config, cfg_options)
        train(cfg, out, resume='auto')
        _print_verdict(cfg, out)
        return
    _check_unused(out)
    if encoder is None and weights is None:
        raise UserError('No encoder is named: give an architecture of timm, such as --encoder convnextv2_tiny.')
    encoder = encoder or choose_encoder(None, weights, '').config['arch']
    facts = look_up_encoder(encoder)
    if weights is not None:
        weights = make_absolute(weights)
    folder = Path(folder)
    fingerprint = _look_at(folder)
    check_images(fingerprint, folder)
    atomic_write(out / FINGERPRINT, json.dumps(fingerprint.to_dict(), indent=1) + '\n')
    wishes = Wishes(weights, channels_rule, size, epochs, minutes, _check_labels(labels), cfg_options)
    plan = PretrainingPlan(folder, fingerprint, facts, find_device(), wishes, config, _describe_run(folder, out))
    plan.try_steps()
    plan.write()
    print(f'What is trained, and why ({config}):\n')
    print(format_table(describe_knobs(plan.list_settings())) + '\n', flush=True)
    cfg = load_config(config)
    train(cfg, out, minutes=minutes)
    _print_verdict(cfg, out)


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
    kinds = some([f'{count:,} {suffix}' for suffix, count in suffixes.most_common()], 4)
    return f' of a format that is read: it holds {format_count(sum(suffixes.values()), "file")} ({kinds}).'


def _check_unused(out: Path) -> None:
    """Refuse a folder in which a run has begun."""
    if (out / CONFIG).exists() and any(out.glob('*.pth')):
        raise UserError(f'{out} holds an earlier run: go on with --resume, or choose another --out.')


def _check_labels(labels: str | Path | None) -> str | None:
    """Return the whole path of a folder of labeled images, by which it is found from any folder."""
    if labels is not None and not Path(labels).is_dir():
        raise UserError(f'There is no folder {labels} of labeled images: give one with a folder for each class.')
    return None if labels is None else str(Path(labels).resolve())


def _describe_run(folder: Path, out: Path) -> str:
    return (
        f'Pretraining on {printable(folder)}. Change what you like, and train by it from a copy of this file:\n'
        f'python tools/train.py {printable(out / CONFIG)} --work-dir ANOTHER_FOLDER, or, without the repository,\n'
        'from mae_toolkit.apis import load_config, train'
    )
