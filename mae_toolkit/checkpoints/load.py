"""Loading weights into a model so that no key is lost in silence."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from torch import Tensor

from mae_toolkit.checkpoints.channels import adapt_channels, warn_if_frozen
from mae_toolkit.checkpoints.checks import COUNTER, check_kinds
from mae_toolkit.checkpoints.misfit import describe_misfit
from mae_toolkit.checkpoints.names import ENCODER
from mae_toolkit.checkpoints.origins import find_origins, trace, untrace
from mae_toolkit.checkpoints.positions import (
    RELATIVE,
    GridPolicy,
    add_prefix_positions,
    count_prefix_tokens,
    is_axis,
    is_table,
    resize_axis_table,
    resize_position_table,
    table_grids,
)
from mae_toolkit.checkpoints.prefixes import take_off
from mae_toolkit.checkpoints.protocols import Grid, Loadable, LoadableModel
from mae_toolkit.checkpoints.report import Report, shorten
from mae_toolkit.checkpoints.source import WeightsSource
from mae_toolkit.checkpoints.translate import Renamed, list_formats, translate
from mae_toolkit.checkpoints.weights import Weights, read_weights
from mae_toolkit.errors import MisfitError, UserError
from mae_toolkit.protocols import HasOwnWeights


def load_file(
    model: LoadableModel,
    source: str | Path | WeightsSource,
    objective: str = 'pixel',
    grid: Grid | None = None,
    channels: str | None = None,
) -> Report:
    """Load weights of any origin into a model from what a user names, and report every key.

    Args:
        model: The model that receives the weights.
        source: ``[FORMAT:]FILE[#PART]``, see :func:`~mae_toolkit.checkpoints.source.find_source`.
        objective: Name of the objective that receives the prediction head.
        grid: Rows and columns of the encoder's positions in the weights, if the user states them.
        channels: See :func:`load_any`.

    Raises:
        UserError: If the weights cannot be read, or for any key that is not accounted for; nothing is loaded then.
    """
    return load_weights_into(model, read_weights(source), objective, grid, channels)


def load_weights_into(
    model: LoadableModel,
    weights: Weights,
    objective: str = 'pixel',
    grid: Grid | None = None,
    channels: str | None = None,
) -> Report:
    """Load weights that were read already; see :func:`load_file`."""
    tensors, source, prefix, grids = weights
    with naming(source):
        return load_any(model, tensors, objective, grid, grids, channels, source.format, prefix)


def load_any(
    model: LoadableModel,
    state: Mapping[str, Tensor],
    objective: str = 'pixel',
    grid: Grid | None = None,
    grids: Mapping[str, Grid] | None = None,
    channels: str | None = None,
    word: str = '',
    prefix: str = '',
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
        word: The word for the format of the names, if the user states it.
        prefix: What the names of the weights that are meant begin with, if the user states it.

    Returns:
        What became of the keys.

    Raises:
        UserError: For any key that is not accounted for; nothing is loaded then.
    """
    others = [path for path, part in model.named_modules() if isinstance(part, HasOwnWeights) and part.has_own_weights]
    with describing_misfits(model, state):
        renamed = translate(model, trace(state), objective, word, prefix)
        grids = take_off(renamed.prefix, grids or {})
        if grid is not None:
            grids |= _grids_over_images(model, grid)
        may_lack = (*renamed.may_lack, *(f'{path}.' for path in others))
        own, in_chans = model.state_dict(), model.encoder.in_chans
        weights, adapted, heads = adapt_channels(renamed.reshape_for(model), own, in_chans, channels)
        report = load_renamed(model, state, weights, (*may_lack, *heads), renamed.may_drop, grids, renamed)
    warn_if_frozen(model, adapted, 'model')
    return report.add_channels(adapted)


def load_renamed(
    model: Loadable,
    state: Mapping[str, Tensor],
    weights: Mapping[str, Tensor],
    may_lack: Iterable[str],
    may_drop: Iterable[str],
    grids: Mapping[str, Grid],
    renamed: Renamed,
) -> Report:
    """Load translated weights, and report every key of the file by its name there.

    Args:
        model: The model that receives the weights.
        state: The tensors by their names in the file.
        weights: Traced tensors by the names of the model.
        may_lack: See :func:`load_state`.
        may_drop: See :func:`load_state`.
        grids: See :func:`load_state`.
        renamed: What else is known of the translation.
    """
    origins = find_origins(weights)
    report = load_state(model, untrace(weights), may_lack, may_drop, grids, renamed.policy, origins)
    return report.add_origins(state, origins, renamed.resized_by_timm)


@contextmanager
def naming(source: WeightsSource) -> Iterator[None]:
    """Begin refusals of weights with the name of their file."""
    try:
        yield
    except UserError as error:
        if str(source.path) in str(error):
            raise
        raise UserError(f'{source}: {error}') from error


@contextmanager
def describing_misfits(model: LoadableModel, state: Mapping[str, Tensor]) -> Iterator[None]:
    """Add to the refusal of weights that do not fit a model what both seem to be."""
    try:
        yield
    except MisfitError as error:
        raise UserError(describe_misfit(str(error), state, model.encoder, list_formats(model))) from error


def load_state(
    model: Loadable,
    state: Mapping[str, Tensor],
    may_lack: Iterable[str] = (),
    may_drop: Iterable[str] = (),
    grids: Mapping[str, Grid] | None = None,
    policy: GridPolicy = GridPolicy.OURS,
    origins: Mapping[str, Sequence[str]] | None = None,
) -> Report:
    """Load weights under a model's own names, and report every key.

    Args:
        model: The model that receives the weights.
        state: The tensors by the names of the model. A table of positions for another grid is resized.
        may_lack: Keys of the model that the weights may lack: whole names, or beginnings that end in a dot. The
            counters of batch norms, which matter only in training, may always be lacking.
        may_drop: Keys that the model need not have, in the same way.
        grids: Rows and columns of tables of positions in ``state``, by name.
        policy: What is known of the grids of the other tables.
        origins: Names of the tensors in their file, for refusals.

    Returns:
        What became of the keys.

    Raises:
        UserError: For any other key that does not fit; nothing is loaded then.
    """
    own = model.state_dict()
    check_kinds('The weights', state, own)
    own_grids, grids = table_grids(model), grids or {}
    state = add_prefix_positions(state, own, own_grids, grids, policy)
    fitted: dict[str, Tensor] = {}
    resized: dict[str, str] = {}
    for name in sorted(state, key=lambda name: name.startswith('decoder.')):  # the encoder's grid is asked for first
        tensor = state[name]
        if name in own:
            tokens = count_prefix_tokens(name, state)
            tensor, how = _resize(name, tensor, own[name], own_grids.get(name), grids.get(name), policy, tokens)
            if tensor.shape != own[name].shape:
                there = ', '.join((origins or {}).get(name) or (name,))
                raise MisfitError(
                    f'The weights hold {there} of shape {tuple(state[name].shape)}, the model '
                    f'{tuple(own[name].shape)}; are they of this architecture?'
                )
            resized |= {name: f'{name} ({how})'} if how else {}
        fitted[name] = tensor
    new, dropped = sorted(own.keys() - fitted.keys()), sorted(fitted.keys() - own.keys())
    _refuse_others([name for name in new if not name.endswith(COUNTER)], may_lack, 'lack')
    _refuse_others(dropped, may_drop, 'hold, and the model does not build,', origins or {})
    model.load_state_dict({name: tensor for name, tensor in fitted.items() if name in own}, strict=False)
    return Report(sorted(fitted.keys() & own.keys() - resized.keys()), sorted(resized.values()), new, dropped)


def _resize(
    name: str,
    tensor: Tensor,
    own: Tensor,
    grid: Grid | None,
    source_grid: Grid | None,
    policy: GridPolicy,
    tokens: Sequence[int],
) -> tuple[Tensor, str | None]:
    """Resize a tensor to that of a model, if it is a table of positions.

    Returns:
        The tensor, and how it was resized, or None.
    """
    how = None
    if is_table(name) and (grid is not None or own.dim() == 4):
        tensor, how = resize_position_table(name, tensor, own, grid, source_grid, policy, tokens)
    elif is_axis(name) and len(tensor) != len(own):
        how = f'{len(tensor)} to {len(own)}'
        tensor = resize_axis_table(tensor, (len(own) + 1) // 2)
    return tensor, how


def _refuse_others(
    keys: Sequence[str], allowed: Iterable[str], verb: str, origins: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Refuse keys that are neither among those allowed nor begin with one that ends in a dot.

    Raises:
        MisfitError: With the keys, by their names in the file.
    """
    allowed = set(allowed)
    prefixes = tuple(name for name in allowed if name.endswith('.'))
    wrong = [key for key in keys if key not in allowed and not key.startswith(prefixes)]
    if wrong:
        named = list(dict.fromkeys(name for key in wrong for name in (origins or {}).get(key) or (key,)))
        raise MisfitError(
            f'The weights {verb} {len(named)} keys: {shorten(named)}; are they of this architecture and method?'
        )


def _grids_over_images(model: LoadableModel, grid: Grid) -> dict[str, Grid]:
    """Find the grids, by name, of all position tables in weights whose encoder's table has this grid.

    A decoder's table may be coarser than the encoder's (Hiera): by the same factor as in the model.

    Raises:
        UserError: If the encoder has no such table.
    """
    own, tables = model.encoder.position_grid, table_grids(model)
    over_image = {name: of for name, of in tables.items() if not name.endswith(RELATIVE) or of == own}  # no windows
    grids = {name: of for name, of in over_image.items() if name.startswith((ENCODER, 'decoder.'))}  # no teacher's
    if own is None or not grids:
        raise UserError(f'--grid {grid[0]} {grid[1]}: this encoder stores no positions over an image; leave it out.')
    rows, columns = grid
    return {name: (rows * h // own[0], columns * w // own[1]) for name, (h, w) in grids.items()}
