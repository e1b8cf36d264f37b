"""What an exported encoder says of itself: how and on what it was trained, and under which license."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm
import torch
from mmengine.config import Config

import mae_toolkit
from mae_toolkit.checkpoints.hub_cache import find_cached_name, find_timm_settings, parse_timm_name
from mae_toolkit.checkpoints.names import TIMM
from mae_toolkit.checkpoints.source import FORMAT
from mae_toolkit.config.text import to_plain
from mae_toolkit.export.preparation import Preparation, read_config
from mae_toolkit.export.source import TrainedEncoder, require_config
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.registry import find_class

KEY = 'mae_toolkit'  # of what is ours in a config.json
FINGERPRINT = 'fingerprint.json'


def describe(found: TrainedEncoder, license: str | None = None) -> dict[str, Any]:
    """Describe a trained encoder in plain values.

    Args:
        found: The checkpoint and the config of its training.
        license: License of the weights; by default that of the weights it began with, where it is known.

    Returns:
        ``encoder`` (its config, as detectors use it), ``preparation`` of images, ``method``, ``training``, ``data``,
        ``began_with``, ``license`` and ``versions``; None where something is not known.

    Raises:
        UserError: If there is no config, or it does not say how images are normalized.
    """
    cfg = require_config(found)
    origin = find_origin(cfg)
    return dict(
        encoder=to_plain(as_downstream(cfg.model.encoder)),
        preparation=find_preparation(found).to_dict(),
        method=describe_method(cfg),
        training=dict(checkpoint=found.checkpoint.name, epoch=found.epoch, iteration=found.iteration),
        data=read_fingerprint(found.folder),
        began_with=origin,
        license=license or (find_license(origin) if origin else None),
        versions={KEY: mae_toolkit.__version__, 'torch': torch.__version__, 'timm': timm.__version__},
    )


def find_preparation(found: TrainedEncoder) -> Preparation:
    """Find how images are prepared for a trained encoder, by its config and by the fingerprint of its images.

    Raises:
        UserError: If there is no config, or it does not say how images are normalized.
    """
    data = read_fingerprint(found.folder)
    return read_config(require_config(found), data['dtype'] if data else None)


def as_downstream(encoder: Mapping[str, Any]) -> dict[str, Any]:
    """Return the config of an encoder for images without anything hidden, which gives the last level that was trained.

    Args:
        encoder: Its config in pretraining.
    """
    config, indices = dict(encoder), encoder.get('out_indices')
    cls = find_class(Encoder, config)
    config = cls.downstream(config)
    if indices is None:
        return config
    return cls.select_levels(config, (max(0, *((indices,) if isinstance(indices, int) else indices)),))


def describe_method(cfg: Config) -> dict[str, Any]:
    """Name the parts of a pretraining: masking and its ratio, decoder, and targets by objective."""
    model = cfg.model
    masking, objectives = model.get('masking') or {}, model.get('objectives') or {}
    return to_plain(
        dict(
            model=model.get('type', 'MaskedAutoencoder'),
            masking=masking.get('type'),
            ratio=masking.get('ratio'),
            decoder=(model.get('decoder') or {}).get('type'),
            targets={name: part['target'].get('type') for name, part in objectives.items() if 'target' in part},
        )
    )


def read_fingerprint(folder: Path | None) -> dict[str, Any] | None:
    """Read what the fingerprint of the images in a run's folder says; None if there is none.

    Returns:
        ``fingerprint`` (its hash), ``images`` (their number) and ``dtype`` (the most frequent type of their numbers).
    """
    path = folder / FINGERPRINT if folder is not None else None
    if path is None or not path.is_file():
        return None
    content = path.read_bytes()
    try:
        values = json.loads(content)
    except ValueError:
        return None
    dtypes = values.get('dtypes') or {}
    return dict(
        fingerprint=values.get('hash') or hashlib.sha256(content).hexdigest()[:16],
        images=values.get('images'),
        dtype=max(dtypes, key=dtypes.__getitem__, default=None),
    )


def find_origin(cfg: Config) -> str | None:
    """Return the weights that a training began with, as its config names them: the file without its folder.

    A file in the cache of Hugging Face has timm's name, as the file itself is called as all others there.
    """
    named = cfg.get('load_from') or (cfg.model.encoder.get('init_cfg') or {}).get('checkpoint')
    if not named:
        return None
    match = FORMAT.fullmatch(str(named))
    word, path = (match[1], Path(match[2])) if match else ('', Path(str(named)))
    if cached := find_cached_name(path):
        return f'{TIMM}:{cached}'
    return f'{word}:{path.name}' if word else path.name


def find_license(origin: str) -> str | None:
    """Find the license of weights by their name, as timm states it; None if it is not one of timm's.

    Args:
        origin: The name, such as ``'timm:convnextv2_tiny.fcmae.safetensors'``. An architecture alone is one of weights
            only as ``timm:ARCH``: a file of this name may be anyone's.
    """
    arch, tag = parse_timm_name(origin)
    if not tag and origin.partition('#')[0] != f'{TIMM}:{arch}':
        return None
    settings = find_timm_settings(arch, tag)
    return None if settings is None else settings.license
