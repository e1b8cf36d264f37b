"""The encoder that a user names: an architecture of timm, or that of a run."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mae_toolkit.checkpoints.encoder import check_pretrained
from mae_toolkit.checkpoints.hub_cache import parse_timm_name
from mae_toolkit.checkpoints.run_folder import find_run, is_run
from mae_toolkit.checkpoints.source import find_source, is_in_cache_alone
from mae_toolkit.errors import UserError
from mae_toolkit.export.known_encoder import KnownEncoder, read_known_encoder
from mae_toolkit.export.preparation import Preparation, find_default_preparation
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.encoders.architectures import make_encoder_config
from mae_toolkit.planning.architectures import OF_TRAINING, check_architecture
from mae_toolkit.planning.families import FAMILIES
from mae_toolkit.registry import build
from mae_toolkit.timm_models import is_architecture


@dataclass(frozen=True)
class EncoderChoice:
    """An encoder, and what it begins with.

    Attributes:
        config: Config of the encoder.
        weights: ``[FORMAT:]FILE[#PART]``; None for random weights.
        reason: Why it is this one.
        normalization: ``mean`` and ``std`` of the images that it was pretrained on; empty for ImageNet's.
        dtype: Type of the numbers in the files of those images, to which they belong; None if it is not known.
        channels_rule: Rule by which the weights are adapted to the channels in ``config``; None if they take as many.
    """

    config: dict[str, Any]
    weights: str | None
    reason: str
    normalization: dict[str, Any]
    dtype: str | None = None
    channels_rule: str | None = None

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
        arch: Name in timm; None for that of the weights, or the default.
        weights: The folder of a run, or ``[FORMAT:]FILE[#PART]``; None for random weights.
        default: Architecture without any of these.

    Raises:
        UserError: If the architecture is unknown, differs from that of the run, or cannot be found out.
    """
    if weights is None:
        if arch is None:
            return EncoderChoice(make_encoder_config(default), None, 'small enough for this device', {})
        check_architecture(arch)
        return EncoderChoice(make_encoder_config(arch), None, '--encoder', {})
    known = read_known_encoder(weights)
    if known is not None and (choice := _choose_known(arch, weights, known)) is not None:
        return choice
    named, tag = parse_timm_name(weights)
    reason = '--encoder' if arch else 'that of the weights, by their name'
    arch = arch or _guess_architecture(weights)
    check_architecture(arch)
    normalization, dtype = _read_normalization(find_default_preparation(arch, tag)) if arch == named else ({}, None)
    choice = EncoderChoice(make_encoder_config(arch), make_absolute(weights), reason, normalization, dtype)
    check_pretrained(build(Encoder, choice.config), weights)
    return choice


def _choose_known(arch: str | None, weights: str, known: KnownEncoder) -> EncoderChoice | None:
    """Take the encoder that a run, an exported folder or a checkpoint describes; None if another is wanted.

    Raises:
        UserError: If another is wanted than that of a run.
    """
    own = find_architecture(weights, known)
    if arch not in (None, own):
        if is_run(weights):
            raise UserError(f'--encoder {arch} is not what {weights} trained ({own}): leave --encoder out.')
        return None
    config = {key: value for key, value in known.config.items() if key not in OF_TRAINING}
    source = make_absolute(weights)
    source = source if not known.part or find_source(weights).part else f'{source}#{known.part}'
    check_pretrained(build(Encoder, config), source)
    return EncoderChoice(config, source, f'that of {weights}', *_read_normalization(known.preparation))


def _read_normalization(preparation: Preparation) -> tuple[dict[str, Any], str | None]:
    """Return mean and std of a preparation, and the type of the numbers that they are of."""
    return dict(mean=list(preparation.mean), std=list(preparation.std)), preparation.dtype


def make_absolute(weights: str) -> str:
    """Check that weights are there, and name them so that they are found from any folder.

    Links are kept: in the cache of Hugging Face, the file behind one has neither a suffix nor the name of the weights.

    Args:
        weights: ``[FORMAT:]FILE[#PART]``; a name of timm's weights in that cache is returned as it is.

    Raises:
        UserError: If there is no such file, or it is no file of weights.
    """
    source = find_source(weights)
    if is_in_cache_alone(weights):
        return weights
    form = f'{source.format}:' if source.format else ''
    return f'{form}{replace(source, path=Path(os.path.abspath(source.path)))}'


def find_architecture(weights: str, known: KnownEncoder | None) -> str:
    """Find the architecture of weights: as they describe it, or by their name.

    Args:
        weights: The folder of a run, or ``[FORMAT:]FILE[#PART]``.
        known: What they say of their encoder.

    Returns:
        The name in timm, or that of our class.

    Raises:
        UserError: If neither tells it.
    """
    if known is not None:
        return str(known.config.get('arch', known.config['type']))
    return _guess_architecture(weights)


def _guess_architecture(weights: str) -> str:
    """Read the architecture off the name of weights, as timm's are called: ``timm:convnextv2_tiny.fcmae``."""
    name, _ = parse_timm_name(weights)
    if is_architecture(name):
        return name
    if is_run(weights):
        raise UserError(
            f'{find_run(weights).config} has no encoder of this toolkit, as model.encoder or model.backbone: give the '
            'folder of a pretraining, or of a model that was fine-tuned from one.'
        )
    raise UserError(f'--from {weights} does not tell its architecture: name it as timm does, with --encoder ARCH.')
