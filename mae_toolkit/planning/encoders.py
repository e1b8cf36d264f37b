"""The encoder that a user names: an architecture of timm, or that of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mae_toolkit.checkpoints.encoder import check_pretrained
from mae_toolkit.checkpoints.run_folder import find_run, is_run
from mae_toolkit.checkpoints.source import find_source
from mae_toolkit.config.load import load_config
from mae_toolkit.errors import UserError
from mae_toolkit.export.known_encoder import read_known_encoder
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.encoders.architectures import make_encoder_config
from mae_toolkit.planning.architectures import OF_TRAINING, check_architecture
from mae_toolkit.planning.families import FAMILIES
from mae_toolkit.registry import SCOPE, build
from mae_toolkit.timm_models import is_architecture


@dataclass(frozen=True)
class EncoderChoice:
    """An encoder, and what it begins with.

    Attributes:
        config: Config of the encoder.
        weights: ``[FORMAT:]FILE[#PART]``; None for random weights.
        reason: Why it is this one.
        normalization: ``mean`` and ``std`` of the images that it was pretrained on; empty for ImageNet's.
    """

    config: dict[str, Any]
    weights: str | None
    reason: str
    normalization: dict[str, Any]

    @property
    def type(self) -> str:
        """Return the name of our class."""
        return str(self.config['type'])

    @property
    def arch(self) -> str:
        """Return the name in timm, or that of our class."""
        return str(self.config.get('arch', self.type))

    @property
    def is_convolutional(self) -> bool:
        """Return whether it is known to be no transformer."""
        return self.type in FAMILIES and FAMILIES[self.type].is_convolutional


def choose_encoder(arch: str | None, weights: str | None, default: str) -> EncoderChoice:
    """Choose the encoder of a downstream model.

    Args:
        arch: Name in timm; None for that of the run, or the default.
        weights: The folder of a run, or ``[FORMAT:]FILE[#PART]``; None for random weights.
        default: Architecture without any of these.

    Raises:
        UserError: If the architecture is unknown, differs from that of the run, or cannot be found out.
    """
    if weights is not None and is_run(weights):
        return _choose_of_run(arch, Path(weights))
    if weights is not None and (choice := _choose_described(arch, weights)) is not None:
        return choice
    reason = '--encoder'
    if arch is None and weights is not None:
        arch, reason = _guess_architecture(weights), 'that of the weights, by their name'
    weights = None if weights is None else make_absolute(weights)
    if arch is None:
        return EncoderChoice(make_encoder_config(default), None, 'small enough for this device', {})
    check_architecture(arch)
    choice = EncoderChoice(make_encoder_config(arch), weights, reason, {})
    if weights is not None:
        check_pretrained(build(Encoder, choice.config), weights)
    return choice


def _choose_of_run(arch: str | None, folder: Path) -> EncoderChoice:
    """Take the encoder of a run: of its pretraining or of its downstream model."""
    run = find_run(folder)
    model = load_config(run.config).model
    part = 'encoder' if 'encoder' in model else 'backbone'
    if part not in model:
        raise UserError(f'{run.config} has no encoder: give the folder of a pretraining, or of a downstream model.')
    config = model[part].to_dict() | {'type': model[part].type.removeprefix(f'{SCOPE}.')}
    config = {key: value for key, value in config.items() if key not in OF_TRAINING}
    if arch is not None and config.get('arch') != arch:
        raise UserError(f'--encoder {arch} is not what {folder} trained ({config.get("arch")}): leave --encoder out.')
    normal = model.get('data_preprocessor') or {}
    normalization = {key: normal[key] for key in ('mean', 'std') if key in normal}
    source = str(run.checkpoint.resolve())
    source = source if part == 'encoder' else f'{source}#{part}'
    return EncoderChoice(config, source, f'that of {folder}', normalization)


def _choose_described(arch: str | None, weights: str) -> EncoderChoice | None:
    """Take the encoder that an exported folder or a checkpoint describes; None if it does not, or another is wanted."""
    known = read_known_encoder(weights)
    if known is None or arch not in (None, known.config.get('arch')):
        return None
    config = {key: value for key, value in known.config.items() if key not in OF_TRAINING}
    normalization = dict(mean=list(known.preparation.mean), std=list(known.preparation.std))
    weights = make_absolute(weights)
    check_pretrained(build(Encoder, config), weights)
    return EncoderChoice(config, weights, f'that of {weights}', normalization)


def make_absolute(weights: str) -> str:
    """Check that a file of weights is there, and name it so that it is found from any folder.

    Args:
        weights: ``[FORMAT:]FILE[#PART]``.

    Raises:
        UserError: If there is no such file, or it is no file of weights.
    """
    source = find_source(weights)
    form = f'{source.format}:' if source.format else ''
    return f'{form}{replace(source, path=source.path.resolve())}'


def _guess_architecture(weights: str) -> str:
    """Read the architecture off the name of weights, as timm's are called: ``timm:convnextv2_tiny.fcmae``."""
    name = Path(weights.partition(':')[2] or weights).name.partition('#')[0].split('.')[0]
    if is_architecture(name):
        return name
    raise UserError(f'--from {weights} does not tell its architecture: name it as timm does, with --encoder ARCH.')
