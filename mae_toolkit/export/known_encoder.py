"""What a folder or a file says of the encoder in it."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mae_toolkit.checkpoints.run_folder import is_run
from mae_toolkit.checkpoints.source import IN_FOLDERS, find_source
from mae_toolkit.errors import UserError
from mae_toolkit.export.description import KEY, find_preparation
from mae_toolkit.export.folder import CONFIG
from mae_toolkit.export.preparation import Preparation, read_plain, read_timm
from mae_toolkit.export.source import read_trained
from mae_toolkit.models.encoders.architectures import make_encoder_config
from mae_toolkit.models.encoders.timm_body import FIXED
from mae_toolkit.registry import SCOPE
from mae_toolkit.timm_models import is_architecture

# Arguments of timm in a folder's config.json that are about what comes behind the maps.
BEHIND_THE_MAPS = (*FIXED, 'use_fc_norm', 'features_only', 'out_indices', 'pretrained_strict')


@dataclass(frozen=True)
class KnownEncoder:
    """What is known of the encoder in a file.

    Attributes:
        config: Its config in pretraining, or in a downstream model.
        preparation: How images are prepared for it.
        part: Place of its weights in the file, as in ``[FORMAT:]FILE[#PART]``; empty if it is to be found out.
    """

    config: Mapping[str, Any]
    preparation: Preparation
    part: str = ''


def read_known_encoder(source: str | Path) -> KnownEncoder | None:
    """Read what a source says of its encoder: the config beside weights, or that of the training in a checkpoint.

    Args:
        source: Folder of a run, or ``[FORMAT:]FILE[#PART]``, see :func:`~mae_toolkit.checkpoints.source.find_source`.

    Returns:
        The encoder and how images are prepared for it; None if the source does not say it.

    Raises:
        UserError: If there is no such source, or what it says is damaged.
    """
    path = find_source(source).path
    description = path.with_name(CONFIG)  # beside exported weights, and in the cache of Hugging Face
    if path.name in IN_FOLDERS and description.is_file() and (known := _read_description(description)):
        return known
    found = read_trained(source if is_run(source) and not description.is_file() else path)
    if found.cfg is None:
        return None
    model, own = found.cfg.model, f'{SCOPE}.'  # in the configs of MMDetection and MMSegmentation
    part = 'encoder' if 'encoder' in model else 'backbone'
    if part not in model or (part == 'backbone' and not str(model.backbone.get('type')).startswith(own)):
        return None
    config = model[part].to_dict()
    if isinstance(config.get('type'), str):
        config['type'] = config['type'].removeprefix(own)
    return KnownEncoder(config, find_preparation(found), '' if part == 'encoder' else part)


def _read_description(path: Path) -> KnownEncoder | None:
    """Read the config.json beside weights; None if it is neither one of ours nor one of timm's.

    Raises:
        UserError: If it is damaged.
    """
    try:
        return _parse_description(json.loads(path.read_text()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(
            f'{path} does not describe the encoder beside it ({type(error).__name__}: {error}): export it again, or '
            "name the architecture, as load_encoder(..., encoder='vit_base_patch16_224')."
        ) from None


def _parse_description(values: Any) -> KnownEncoder | None:
    if isinstance(values, dict) and KEY in values:
        return KnownEncoder(values[KEY]['encoder'], read_plain(values[KEY]['preparation']))
    if not isinstance(values, dict) or not is_architecture(values.get('architecture')):
        return None
    about = values.get('pretrained_cfg', values)  # older ones have it all on one level
    given = {key: value for key, value in values.get('model_args', {}).items() if key not in BEHIND_THE_MAPS}
    return KnownEncoder(make_encoder_config(values['architecture'], **given), read_timm(about))
