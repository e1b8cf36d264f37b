"""Loading weights into a model so that no key is lost in silence."""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from mae_toolkit.checkpoints.channels import adapt_channels, warn_if_frozen
from mae_toolkit.checkpoints.checks import check_kinds
from mae_toolkit.checkpoints.names import BODY
from mae_toolkit.checkpoints.positions import (
    GridPolicy,
    count_prefix_tokens,
    is_axis,
    is_table,
    resize_axis_table,
    resize_position_table,
    table_grids,
)
from mae_toolkit.checkpoints.protocols import Grid, Loadable, LoadableModel
from mae_toolkit.checkpoints.translate import Renamed, translate
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import HasOwnWeights


class Report(NamedTuple):
    """What became of the keys of a checkpoint.

    Attributes:
        loaded: Keys that fitted as they were.
        resized: Tables of positions that were resized, with both grids, and first convolutions that were adapted to
            other channels, with the rule.
        new: Keys of the model that the checkpoint lacks.
        dropped: Keys of the checkpoint that the model does not build.
    """

    loaded: list[str]
    resized: list[str]
    new: list[str]
    dropped: list[str]

    @property
    def counts(self) -> str:
        """Return how many keys there are of each kind, as text."""
        return ', '.join(f'{len(names)} {kind}' for kind, names in self._asdict().items())

    def __str__(self) -> str:
        """One line for each kind, in which long lists are shortened."""
        return '\n'.join(f'{kind:>8}: {len(keys):4}  {_shorten(keys)}' for kind, keys in self._asdict().items())

    def add_renaming(self, renamed: Renamed) -> 'Report':
        """Add what became of the names before the weights were loaded."""
        by_timm = renamed.resized_by_timm
        return self._replace(
            loaded=[name for name in self.loaded if name not in by_timm],
            resized=sorted([*self.resized, *(f'{name} (from a square, by timm)' for name in by_timm)]),
            dropped=sorted([*self.dropped, *renamed.left]),
        )

    def add_channels(self, adapted: Mapping[str, str], dropped: Sequence[str] = ()) -> 'Report':
        """Add which convolutions were adapted to other channels, and how, and what was dropped therefore."""
        return self._replace(
            loaded=[name for name in self.loaded if name not in adapted],
            resized=sorted([*self.resized, *(f'{name} ({how})' for name, how in adapted.items())]),
            dropped=sorted([*self.dropped, *dropped]),
        )


def load_any(
    model: LoadableModel,
    state: Mapping[str, Tensor],
    objective: str = 'pixel',
    grid: Grid | None = None,
    grids: Mapping[str, Grid] | None = None,
    channels: str | None = None,
) -> Report:
    """Load weights of any origin into a model, and report every key.

    Args:
        model: The model that receives the weights.
        state: The tensors by name, see :func:`~mae_toolkit.checkpoints.translate.translate`.
        objective: Name of the objective that receives the prediction head.
        grid: Rows and columns of the encoder's positions in the weights, if the user states them.
        grids: Rows and columns of tables of positions by name, if the file states them.
        channels: Rule for weights of images with other channels, see :mod:`mae_toolkit.checkpoints.channels`. What
            predicts the file's channels is dropped, and new in the model.

    Returns:
        What became of the keys.

    Raises:
        UserError: For any key that is not accounted for; nothing is loaded then.
    """
    renamed = translate(model, state, objective)
    if grid is not None:
        grids = dict(grids or {}) | _grids_over_images(model, grid)
    others = [path for path, part in model.named_modules() if isinstance(part, HasOwnWeights) and part.has_own_weights]
    may_lack = (*renamed.may_lack, *(f'{path}.' for path in others))
    weights, adapted, heads = adapt_channels(
        renamed.reshape_for(model), model.state_dict(), model.encoder.in_chans, channels
    )
    report = load_state(model, weights, (*may_lack, *heads), renamed.may_drop, grids, renamed.policy)
    warn_if_frozen(model, adapted, 'model')
    return report.add_renaming(renamed).add_channels(adapted, heads)


def load_state(
    model: Loadable,
    state: Mapping[str, Tensor],
    may_lack: Iterable[str] = (),
    may_drop: Iterable[str] = (),
    grids: Mapping[str, Grid] | None = None,
    policy: GridPolicy = GridPolicy.OURS,
) -> Report:
    """Load weights under a model's own names, and report every key.

    Args:
        model: The model that receives the weights.
        state: The tensors by the names of the model. A table of positions for another grid is resized.
        may_lack: Keys of the model that the weights may lack: whole names, or beginnings that end in a dot.
        may_drop: Keys that the model need not have, in the same way.
        grids: Rows and columns of tables of positions in ``state``, by name.
        policy: What is known of the grids of the other tables.

    Returns:
        What became of the keys.

    Raises:
        UserError: For any other key that does not fit; nothing is loaded then.
    """
    own = model.state_dict()
    check_kinds('The weights', state, own)
    own_grids, grids = table_grids(model), grids or {}
    fitted: dict[str, Tensor] = {}
    resized: dict[str, str] = {}
    for name in sorted(state, key=lambda name: name.startswith('decoder.')):  # the encoder's grid is asked for first
        tensor = state[name]
        if name in own:
            tokens = count_prefix_tokens(name, state)
            tensor, how = _resize(name, tensor, own[name], own_grids.get(name), grids.get(name), policy, tokens)
            resized |= {name: f'{name} ({how})'} if how else {}
        fitted[name] = tensor
    new, dropped = sorted(own.keys() - fitted.keys()), sorted(fitted.keys() - own.keys())
    _refuse_others(new, may_lack, 'lack')
    _refuse_others(dropped, may_drop, 'hold, and the model does not build,')
    model.load_state_dict({name: tensor for name, tensor in fitted.items() if name in own}, strict=False)
    return Report(sorted(fitted.keys() & own.keys() - resized.keys()), sorted(resized.values()), new, dropped)


def _resize(
    name: str,
    tensor: Tensor,
    own: Tensor,
    grid: Grid | None,
    source_grid: Grid | None,
    policy: GridPolicy,
    tokens: int,
) -> tuple[Tensor, str | None]:
    """Resize a tensor to that of a model, if it is a table of positions.

    Returns:
        The tensor, and how it was resized, or None.

    Raises:
        UserError: If it has another shape then.
    """
    how = None
    if is_table(name) and (grid is not None or own.dim() == 4):
        tensor, how = resize_position_table(name, tensor, own, grid, source_grid, policy, tokens)
    elif is_axis(name) and len(tensor) != len(own):
        how = f'{len(tensor)} to {len(own)}'
        tensor = resize_axis_table(tensor, (len(own) + 1) // 2)
    if tensor.shape != own.shape:
        raise UserError(
            f'The weights hold {name} of shape {tuple(tensor.shape)}, the model {tuple(own.shape)}; '
            'are they of this architecture?'
        )
    return tensor, how


def _refuse_others(keys: Sequence[str], allowed: Iterable[str], verb: str) -> None:
    """Refuse keys that are neither among those allowed nor begin with one that ends in a dot.

    Raises:
        UserError: With the keys.
    """
    allowed = set(allowed)
    prefixes = tuple(name for name in allowed if name.endswith('.'))
    wrong = [key for key in keys if key not in allowed and not key.startswith(prefixes)]
    if wrong:
        raise UserError(
            f'The weights {verb} {len(wrong)} keys: {_shorten(wrong)}; are they of this architecture and method?'
        )


def _grids_over_images(model: LoadableModel, grid: Grid) -> dict[str, Grid]:
    """Find the grids, by name, of all position tables in weights whose encoder's table has this grid.

    A decoder's table may be coarser than the encoder's (Hiera): by the same factor as in the model.

    Raises:
        UserError: If the encoder has no such table.
    """
    own, tables = model.encoder.position_grid, table_grids(model)
    grids = {name: grid for name, grid in tables.items() if name.startswith((BODY, 'decoder.'))}  # no teacher's
    if own is None or not grids:
        raise UserError(f'--grid {grid[0]} {grid[1]}: this encoder stores no positions over an image; leave it out.')
    rows, columns = grid
    return {name: (rows * h // own[0], columns * w // own[1]) for name, (h, w) in grids.items()}


def _shorten(keys: Sequence[str], most: int = 6) -> str:
    """Join the first few keys with commas, and say how many more there are."""
    first = ', '.join(f'{key:.200}' for key in keys[:most])
    return f'{first}, … ({len(keys) - most} more)' if len(keys) > most else first
