"""What the parts of a masked autoencoder may know of each other, and how they ask for it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from torch import nn

from mae_toolkit.arguments import list_parameters
from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.registry import list_arguments, suggest


@dataclass(frozen=True)
class Wiring:
    """All that one part of a masked autoencoder may know of the other parts, and of the images.

    The model fills it in while it builds its parts: encoder, masking, decoder, objectives. A class names in ``takes``
    the arguments of its constructor that come from here, each with the field that fills it::

        class PixelTarget(Target):
            takes = dict(patch='stride', in_chans='in_chans')

            def __init__(self, patch: int, in_chans: int = 3): ...

    A config may set such an argument, too: what it sets is never replaced. An argument that ``takes`` does not name is
    the user's own, whatever it is called. A field that is not known is None, and leaves the argument at its default.

    Attributes:
        mean: Means of the images' channels in the units of their files, by which they are normalized.
        std: Standard deviations of the channels, likewise.
        in_chans: Channels of the images.
        encoder: Config of the encoder.
        channels: Channels of each level of the encoder.
        strides: Pixels per position of each level of the encoder.
        grid: Rows and columns of the encoder's last level, for images of the size for which its positions are stored.
        unit: Pixels per side of a cell of the mask; until the masking is built, the smallest that the encoder allows.
        target: What an objective predicts, for its losses.
    """

    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    in_chans: int | None = None
    encoder: Mapping[str, Any] | None = None
    channels: tuple[int, ...] | None = None
    strides: tuple[int, ...] | None = None
    grid: tuple[int, int] | None = None
    unit: int | None = None
    target: nn.Module | None = None

    @classmethod
    def from_encoder(cls, encoder: Encoder, config: object, preprocessor: nn.Module) -> Wiring:
        """Describe an encoder and the images that it sees.

        Args:
            encoder: The encoder.
            config: What it was built from: its config or, where it was built already, the encoder itself.
            preprocessor: The model's; its ``mean`` and ``std``, if it has them, are those of the images.
        """
        return cls(
            mean=_values(preprocessor, 'mean'),
            std=_values(preprocessor, 'std'),
            in_chans=encoder.in_chans,
            encoder=config if isinstance(config, dict) else None,
            channels=encoder.out_channels,
            strides=encoder.out_strides,
            grid=encoder.grid,
            unit=encoder.mask_unit,
        )

    @property
    def stride(self) -> int | None:
        """Pixels per position of the encoder's last level."""
        return None if self.strides is None else self.strides[-1]

    def arguments_for(self, cls: type) -> dict[str, Any]:
        """Return the arguments that a class takes from here, as far as they are known.

        Raises:
            UserError: If ``takes`` of the class names a field or an argument that does not exist.
        """
        values = {argument: getattr(self, field) for argument, field in wired_arguments(cls).items()}
        return {argument: value for argument, value in values.items() if value is not None}


def _values(preprocessor: nn.Module, name: str) -> tuple[float, ...] | None:
    """Return a preprocessor's values per channel, or None where it has none."""
    values = getattr(preprocessor, name, None)
    return None if values is None else tuple(values.flatten().tolist())


FIELDS = (*(field.name for field in fields(Wiring)), 'stride')


def wired_arguments(cls: type) -> dict[str, str]:
    """Map the arguments of a constructor to the fields of :class:`Wiring` that fill them.

    Classes inherit the entries of ``takes``. An exception is an argument to which the constructor of a subclass gives a
    default of its own: the subclass then keeps that default, unless its ``takes`` names the argument again.

    Raises:
        UserError: If an entry names a field or an argument that does not exist.
    """
    wired: dict[str, str] = {}
    own: set[str] = set()  # arguments with defaults of subclasses of the class that is looked at
    for kind in cls.__mro__:
        for argument, field in vars(kind).get('takes', {}).items():
            if kind is cls:  # entries that are inherited may have become unused
                _check_entry(cls, argument, field)
            if argument not in own:
                wired.setdefault(argument, field)
        if '__init__' in vars(kind):
            parameters = list_parameters(vars(kind)['__init__'])
            own |= {name for name, p in parameters.items() if p.default is not p.empty}
    accepted = list_arguments(cls)
    return {argument: field for argument, field in wired.items() if argument in accepted}


def _check_entry(cls: type, argument: str, field: str) -> None:
    """Refuse an entry of ``takes`` that can fill nothing."""
    where = f'{cls.__name__}: takes has {argument}={field!r}'
    if field not in FIELDS:
        raise UserError(f'{where}, and the wiring of the model has no field {field!r}{suggest(field, FIELDS)}')
    accepted = list_arguments(cls)
    if argument not in accepted:
        raise UserError(f'{where}, and the constructor has no argument {argument!r}{suggest(argument, accepted)}')
