"""Tables of positions for another size: finding out for which grid a table is, and resizing it to that of a model.

A file holds a number of positions, not their rows and columns: 144 may be 12 x 12 or 8 x 18. Where nothing tells which,
the table is refused; nothing is guessed.
"""

import math
import re
from collections.abc import Collection, Mapping, Sequence
from enum import Enum

import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from torch import Tensor, nn
from torch.nn.functional import interpolate

from mae_toolkit.checkpoints.protocols import Grid, Loadable
from mae_toolkit.errors import MisfitError, UserError
from mae_toolkit.protocols import HasPositionGrid

RELATIVE = 'relative_position_bias_table'
# Buffers that follow from the sizes alone; some files hold them.
COMPUTED = ('relative_position_index', 'relative_coords_table', 'attn_mask')


class GridPolicy(Enum):
    """What follows for a table whose rows and columns nobody has stated.

    Attributes:
        OURS: It may be for any grid, so it is for that of the model if it has as many positions. So are our files.
        SQUARE: It is for a square. So are official files, whose code knows no other grid.
        EITHER: It is for a square if it comes from a release, and for the grid of the model if it comes from here; if
            both fit and differ, nobody knows. So are files with timm's names.
    """

    OURS = 'ours'
    SQUARE = 'square'
    EITHER = 'either'


def table_grids(model: Loadable) -> dict[str, Grid]:
    """Return rows and columns of each table of positions in a model's state dict, by name.

    For a table of relative positions (BEiT, Swin) they are those of the window.
    """
    grids: dict[str, Grid] = {}
    own = model.state_dict().keys()
    for path, module in model.named_modules():
        path = f'{path}.' if path else ''
        if isinstance(module, HasPositionGrid) and module.position_grid is not None:
            rows, columns = module.position_grid
            tables = (f'{path}body.pos_embed', f'{path}pos_embed')  # of an encoder, or of a decoder's positions
            grids |= {name: (rows, columns) for name in tables if name in own}
        if isinstance(getattr(module, RELATIVE, None), nn.Parameter):
            rows, columns = module.window_size  # type: ignore[misc]
            grids[path + RELATIVE] = (rows, columns)
    return grids


def resize_position_table(
    name: str,
    table: Tensor,
    own: Tensor,
    grid: Grid | None,
    source_grid: Grid | None = None,
    policy: GridPolicy = GridPolicy.OURS,
    tokens: Sequence[int] = (),
) -> tuple[Tensor, str | None]:
    """Resize a position table to the grid of a model.

    Args:
        name: Name of the table, for messages, and by which relative positions are known.
        table: (1, P+L, C) for L positions and P prefix tokens, (1, C, h, w), or relative positions
            ((2h-1)(2w-1)+P, heads).
        own: The model's table.
        grid: Rows and columns of the model's table; not needed for a table of four dimensions, which has them itself.
        source_grid: Rows and columns of ``table``, if they are stated.
        policy: What follows if they are not.
        tokens: How many prefix tokens of each kind (class, register) come with ``table``, which may have positions for
            them.

    Returns:
        The table, and how it was resized, as ``'12 x 12 to 8 x 18'``; None if it is for this grid.

    Raises:
        UserError: If the channels differ, or nothing tells for which grid the table is.
    """
    channels = 1 if table.dim() == 4 else -1
    if table.dim() != own.dim() or table.shape[channels] != own.shape[channels]:
        raise MisfitError(
            f'The weights hold {name} of shape {tuple(table.shape)}, the model {tuple(own.shape)}; '
            'are they of this architecture?'
        )
    if table.dim() == 4:  # the only kind that has its grid itself
        source, grid = (table.shape[2], table.shape[3]), (own.shape[2], own.shape[3])
    else:
        assert grid is not None
        axis = table.dim() - 2
        extra = own.shape[axis] - _count_positions(name, grid)
        if table.dim() == 3:
            table, source = _match_prefix(name, table, extra, tokens, grid, source_grid, policy)
        else:
            source = _find_grid(name, table.shape[axis] - extra, grid, source_grid, policy)
    if source == grid:
        return table, None
    return _interpolate(table, own, source, grid), f'{source[0]} x {source[1]} to {grid[0]} x {grid[1]}'


def copy_shared_positions(state: Mapping[str, Tensor], own: Collection[str], prefix: str = '') -> dict[str, Tensor]:
    """Give each block the relative positions that all blocks share in the weights, where a model has them per block.

    BEiT pretrains with one table for all blocks and fine-tunes with one for each, which begin as that (official code of
    arXiv:2106.08254); so does SimMIM.

    Args:
        state: The weights by name.
        own: Names of the model.
        prefix: What all names begin with.

    Returns:
        The weights, in which the shared table is replaced by one for each block, or as they were.
    """
    shared, per_block = (
        f'{prefix}rel_pos_bias.{RELATIVE}',
        re.compile(rf'{re.escape(prefix)}blocks\.\d+\.attn\.{RELATIVE}'),
    )
    blocks = [name for name in own if per_block.fullmatch(name)]
    if shared not in state or shared in own or not blocks or any(name in state for name in blocks):
        return dict(state)
    return {k: v for k, v in state.items() if k != shared} | dict.fromkeys(blocks, state[shared])


def resize_axis_table(table: Tensor, length: int) -> Tensor:
    """Resize a table (2*n-1, d) of relative rows or columns to (2*length-1, d)."""
    if len(table) == 2 * length - 1:
        return table
    return interpolate(table.T[None], size=2 * length - 1, mode='linear')[0].T


def count_prefix_tokens(name: str, state: Mapping[str, Tensor]) -> tuple[int, ...]:
    """Count the prefix tokens of each kind (class, register) that lie beside a table of positions in a state dict."""
    found = (state.get(token) for token in _tokens_beside(name))
    return tuple(token.shape[1] for token in found if token is not None and token.dim() > 1)


def add_prefix_positions(
    state: Mapping[str, Tensor],
    own: Mapping[str, Tensor],
    own_grids: Mapping[str, Grid],
    grids: Mapping[str, Grid],
    policy: GridPolicy,
) -> dict[str, Tensor]:
    """Add the positions of prefix tokens to these tokens, where a model's table has no place for them.

    So timm's ``no_embed_class`` is: the sum is what the first block sees.

    Args:
        state: The weights by name.
        own: The state dict of the model.
        own_grids: Rows and columns of the model's tables.
        grids: Rows and columns of those of the weights, if they are stated.
        policy: What follows if they are not.
    """
    changed = dict(state)
    for name in own_grids.keys() & state.keys():
        table, mine, tokens = state[name], own[name], [t for t in _tokens_beside(name) if t in state and t in own]
        rows, columns = own_grids[name]
        if not tokens or table.dim() != 3 or mine.dim() != 3 or mine.shape[1] != rows * columns:
            continue
        try:
            counts = count_prefix_tokens(name, state)
            places, _ = _count_places(name, table.shape[1], 0, counts, (rows, columns), grids.get(name), policy)
        except UserError:  # refused where the table is resized
            continue
        start = 0
        for token in tokens if places else ():
            end = min(start + state[token].shape[1], places)
            if end > start:
                changed[token] = state[token] + table[:, start:end]
            start = end
        changed[name] = table[:, places:]
    return changed


def _tokens_beside(name: str) -> tuple[str, str]:
    """Return the names of the class token and of the registers beside a table of positions."""
    body = name.removesuffix('pos_embed')
    return f'{body}cls_token', f'{body}reg_token'


def is_axis(name: str) -> bool:
    """Tell whether a name is that of a table of relative rows or columns."""
    return '.rel_pos.' in name and name.endswith(('.rows', '.columns'))


def is_table(name: str) -> bool:
    """Tell whether a name is that of a table of positions."""
    return name.endswith((RELATIVE, 'pos_embed', 'pos_embed_win'))


def _count_positions(name: str, grid: Grid) -> int:
    h, w = grid
    return (2 * h - 1) * (2 * w - 1) if name.endswith(RELATIVE) else h * w


def _match_prefix(
    name: str,
    table: Tensor,
    extra: int,
    tokens: Sequence[int],
    grid: Grid,
    source_grid: Grid | None,
    policy: GridPolicy,
) -> tuple[Tensor, Grid]:
    """Give a table (1, P+L, C) positions of as many prefix tokens as the model has, and find its rows and columns.

    Tokens of the model for which it has none, such as fresh registers, get a position of zero.
    """
    theirs, source = _count_places(name, table.shape[1], extra, tokens, grid, source_grid, policy)
    prefix, positions = table[:, : min(theirs, extra)], table[:, theirs:]
    missing = table.new_zeros(1, extra - prefix.shape[1], table.shape[2])  # nothing was added to such a token
    return torch.cat([prefix, missing, positions], 1), source


def _count_places(
    name: str,
    count: int,
    extra: int,
    tokens: Sequence[int],
    grid: Grid,
    source_grid: Grid | None,
    policy: GridPolicy,
) -> tuple[int, Grid]:
    """Find for how many prefix tokens a table of ``count`` positions has a place, and its rows and columns.

    It has one for all tokens that come with it, for the class token alone (DINOv2's registers have none), or for no
    token (``no_embed_class`` of timm).

    Raises:
        UserError: If none of these leaves a grid.
    """
    for theirs in dict.fromkeys((sum(tokens), *tokens[:1], 0) if tokens else (extra, 0)):
        if theirs == 0 < min(extra, sum(tokens)) and source_grid is None:
            continue  # a class token without a place would be a guess
        try:
            return theirs, _find_grid(name, count - theirs, grid, source_grid, policy)
        except UserError:
            continue
    return extra, _find_grid(name, count - extra, grid, source_grid, policy)


def _find_grid(name: str, count: int, own: Grid, source_grid: Grid | None, policy: GridPolicy) -> Grid:
    """Find rows and columns of a table of so many positions.

    Raises:
        UserError: If nothing tells them, or those that are stated do not fit.
    """
    if source_grid is not None:
        rows, columns = source_grid
        if _count_positions(name, (rows, columns)) != count:
            raise UserError(
                f'{name} holds {count} positions, not the {_count_positions(name, (rows, columns))} of a grid of '
                f'{rows} x {columns}.'
            )
        return rows, columns
    root = math.isqrt(max(count, 0))
    side = (root + 1) // 2 if name.endswith(RELATIVE) else root
    is_square = policy is not GridPolicy.OURS and _count_positions(name, (side, side)) == count
    is_own = policy is not GridPolicy.SQUARE and _count_positions(name, own) == count
    if is_square and (not is_own or own == (side, side)):
        return side, side
    if is_own and not is_square:
        return own
    # A decoder's table may be coarser (Hiera), and the option is of the encoder's.
    which = "those of the encoder's positions" if name.startswith('decoder.') else 'them'
    raise UserError(
        f"{name} holds {count} positions, the model's grid of {own[0]} x {own[1]} has {_count_positions(name, own)}, "
        f'and the file does not say on which rows and columns: give {which} with --grid ROWS COLUMNS of '
        'tools/import_weights.py.'
    )


def _interpolate(table: Tensor, own: Tensor, source: Grid, grid: Grid) -> Tensor:
    if table.dim() == 4:
        return interpolate(table, size=grid, mode='bicubic', antialias=True)
    if table.dim() == 2:
        return resize_rel_pos_bias_table(table, grid, tuple(own.shape), old_window_size=source)
    return resample_abs_pos_embed(table, list(grid), list(source), own.shape[1] - grid[0] * grid[1])
