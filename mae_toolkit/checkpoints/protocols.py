"""What checkpoints ask of the modules that they are loaded into; nothing here imports a model."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, runtime_checkable

from torch import nn

from mae_toolkit.checkpoints.names import Format

Grid = tuple[int, int]  # rows and columns


@runtime_checkable
class HasPositionGrid(Protocol):
    """A module that may store a table of positions, in ``pos_embed`` or ``body.pos_embed``.

    Attributes:
        position_grid: Rows and columns of the table; None if there is none.
    """

    position_grid: Grid | None


@runtime_checkable
class HasOwnWeights(Protocol):
    """A module that brings its weights itself, as a frozen teacher does, so that weights of others may lack them.

    Attributes:
        has_own_weights: Whether it does.
    """

    has_own_weights: bool


@runtime_checkable
class HasCheckpointFormats(Protocol):
    """A model that reads checkpoints which no other model reads.

    Attributes:
        checkpoint_formats: Formats that are tried before those that every model reads.
    """

    @property
    def checkpoint_formats(self) -> Iterable[Format]: ...  # noqa: D102


class Loadable(Protocol):
    """A module that weights are loaded into: any ``nn.Module``."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...  # noqa: D102

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any: ...  # noqa: D102


class LoadableEncoder(Loadable, Protocol):
    """An encoder, or a network that stands for one.

    Attributes:
        body: The timm model, whose parameters keep their names.
        in_chans: Channels of the images.
        fills_hidden: Whether it has a mask token.
        optional_keys: Names, or their beginnings up to a dot, of what one configuration of an architecture has and
            another has not.
        architecture_names: Names in the whole timm model, built here or not.
        position_grid: Rows and columns of the table of positions that is stored.
    """

    body: nn.Module
    in_chans: int
    fills_hidden: bool
    optional_keys: tuple[str, ...]
    architecture_names: frozenset[str]
    position_grid: Grid | None


class LoadableModel(Loadable, Protocol):
    """A model with an encoder.

    Attributes:
        encoder: The encoder.
    """

    encoder: LoadableEncoder
