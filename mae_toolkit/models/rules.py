"""Rules about parts that do not go together, each with the reason.

A rule reads attributes alone, those of parts or of their classes, so that the table of compatible parts
(:mod:`mae_toolkit.models.compatibility`) is made without building a network. It returns a :class:`Refusal`, or None
where the parts go together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import nn

from mae_toolkit.errors import UserError

if TYPE_CHECKING:  # they import the rules
    from mae_toolkit.models.decoders import Decoder
    from mae_toolkit.models.encoders import Encoder
    from mae_toolkit.models.losses import Loss
    from mae_toolkit.models.targets import Target


@dataclass(frozen=True)
class Refusal:
    """The reason why parts do not go together.

    Attributes:
        reason: The reason and the remedy, which hold for any such parts.
        parts: The parts by name, such as ``'LinearDecoder after ViT'``; empty where the reason names them.
    """

    reason: str
    parts: str = ''

    def __str__(self) -> str:
        return f'{self.parts}: {self.reason}' if self.parts else self.reason


def check(refusal: Refusal | None) -> None:
    """Raise a refusal, if there is one.

    Raises:
        UserError: With the sentence of the refusal.
    """
    if refusal is not None:
        raise UserError(str(refusal))


def check_channels(encoder: Encoder, preprocessor: nn.Module) -> Refusal | None:
    """Refuse images with another number of channels than the encoder takes."""
    means = getattr(preprocessor, 'mean', None)
    if means is None or len(means) == encoder.in_chans:
        return None
    return Refusal(
        f'The encoder takes {encoder.in_chans} channels, but the data_preprocessor has {len(means)} values of mean and '
        'std: give one of each per channel.'
    )


def check_hidden_filled(encoder: Encoder | type[Encoder], decoder: Decoder | type[Decoder]) -> Refusal | None:
    """Refuse a pair in which neither the encoder (by its mask token) nor the decoder fills the hidden cells."""
    if encoder.fills_hidden or not decoder.pointwise:
        return None
    return Refusal(
        'the decoder fills no hidden cell, and the encoder leaves them empty; set mask_token=True in an encoder that '
        'has it, or choose another decoder.',
        f'{_name(decoder)} after {_name(encoder)}',
    )


def check_strides(encoder: Encoder, decoder: Decoder, unit: int) -> Refusal | None:
    """Refuse strides that do not divide the cells of the mask, so that no cell is a whole number of positions.

    Where the encoder fills the hidden cells and the decoder works within positions, nothing asks on their maps what is
    hidden. Only the map on which the mask tokens are put counts then: SimMIM hides less than a position of a Swin's
    last map (arXiv:2111.09886, table 1).
    """
    strides: dict[str, int] = {}
    if not (encoder.fills_hidden and decoder.pointwise):
        strides |= {f'encoder level {i}': stride for i, stride in enumerate(encoder.out_strides, 1)}
        strides |= {'the decoder': decoder.out_stride}
    return _check_divisors(strides | {'the encoder mask unit': encoder.token_unit or encoder.mask_unit}, unit)


def check_target_stride(name: str, target: Target, unit: int) -> Refusal | None:
    """Refuse the target of an objective whose positions do not divide the cells of the mask."""
    return _check_divisors({f'the target of objective {name!r}': target.stride}, unit)


def check_target_kind(target: Target | type[Target]) -> Refusal | None:
    """Refuse a target of an unknown kind."""
    if target.kind in KINDS:
        return None
    known = ', '.join(map(repr, KINDS))
    return Refusal(f'{_name(target)} has the kind {target.kind!r}; known are {known}: set one of them on the class.')


def check_loss_kind(target: Target | type[Target], loss: Loss | type[Loss]) -> Refusal | None:
    """Refuse a loss that cannot compare a prediction with a target of this kind."""
    if target.kind in loss.compares:
        return None
    unknown = check_target_kind(target) or _check_compared_kinds(loss)
    if unknown is not None:
        return unknown
    *others, last = (KINDS[kind] for kind in loss.compares)
    compared = f'{", ".join(others)} or {last}' if others else last
    remedy = REMEDIES[loss.compares == ('picture',), target.kind]
    return Refusal(
        f'the loss compares {compared}, and the target gives {KINDS[target.kind]}; {remedy}.',
        f'{_name(loss)} of {_name(target)}',
    )


# The kinds of targets, and what a refusal calls what they give.
KINDS = {'picture': 'pictures', 'patches': 'normalized patches', 'vectors': 'vectors', 'codes': 'codes'}
# By whether the loss compares pictures alone, and the kind of the target.
REMEDIES = {
    (True, 'patches'): 'set norm_pix=False, or choose another loss',
    (True, 'vectors'): 'choose the PixelTarget, or another loss',
    (True, 'codes'): 'choose the PixelTarget, or another loss',
    (False, 'picture'): 'choose a target of codes, or another loss',
    (False, 'patches'): 'choose a target of codes, or another loss',
    (False, 'vectors'): 'choose a target of codes, or another loss',
    (False, 'codes'): 'choose MaskedCrossEntropyLoss, or another target',
}


def _check_compared_kinds(loss: Loss | type[Loss]) -> Refusal | None:
    unknown = [kind for kind in loss.compares if kind not in KINDS]
    if loss.compares and not unknown:
        return None
    known = ', '.join(map(repr, KINDS))
    return Refusal(f'{_name(loss)} compares the kinds {loss.compares!r} of targets; known are {known}.')


def _check_divisors(strides: Mapping[str, int], unit: int) -> Refusal | None:
    for where, stride in strides.items():
        if unit % stride:
            return Refusal(f'Stride {stride} of {where} does not divide mask unit {unit}.')
    return None


def _name(part: nn.Module | type) -> str:
    return part.__name__ if isinstance(part, type) else type(part).__name__
