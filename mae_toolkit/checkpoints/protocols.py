"""Types of the modules that checkpoints are loaded into, so that nothing here imports a model.

What checkpoints ask of some modules alone is in :mod:`mae_toolkit.protocols`.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Protocol

from torch import nn

Grid = tuple[int, int]  # rows and columns


class Loadable(Protocol):
    """A module that weights are loaded into: any ``nn.Module``."""

    def state_dict(self) -> dict[str, Any]: ...  # noqa: D102

    def named_modules(self) -> Iterator[tuple[str, nn.Module]]: ...  # noqa: D102

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True) -> Any: ...  # noqa: D102


class LoadableEncoder(Loadable, Protocol):
    """An encoder, or a network that stands for one.

    Attributes:
        body: The timm model, whose parameters keep their names; an encoder of another architecture has none.
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
