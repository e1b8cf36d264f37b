"""Tables of positions of another size: for which grid a table is, and its values on the grid of a model.

A file holds a number of positions, not their rows and columns: 144 may be 12 x 12 or 8 x 18. Where nothing says it,
this is an error, not a guess.
"""

import math

import torch
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from torch import nn
from torch.nn.functional import interpolate

from mae_toolkit.errors import UserError
from mae_toolkit.protocols import HasPositionGrid

RELATIVE = 'relative_position_bias_table'
# Buffers that follow from the sizes alone; some files hold them.
COMPUTED = ('relative_position_index', 'relative_coords_table', 'attn_mask')
# What is known of a table whose grid nobody has source_grid.
OURS = 'ours'  # any grid: that of the model, if the number of positions is the same
SQUARE = 'square'  # the official code knows no other grid
EITHER = 'either'  # square if released, that of the model if it comes from here


def table_grids(model):
    """Rows and columns of each table of positions in a model's state dict, by name.

    For a table of relative positions (BEiT, Swin) they are those of the window.
    """
    grids, own = {}, model.state_dict().keys()
    for path, module in model.named_modules():
        path = f'{path}.' if path else ''
        if (
            isinstance(module, HasPositionGrid) and module.position_grid is not None
        ):  # of an encoder, or of a decoder's learned positions
            tables = (f'{path}body.pos_embed', f'{path}pos_embed')
            grids |= {name: tuple(module.position_grid) for name in tables if name in own}
        if isinstance(getattr(module, RELATIVE, None), nn.Parameter):
            grids[path + RELATIVE] = tuple(module.window_size)
    return grids


def resize_position_table(name, table, own, grid, source_grid=None, known=OURS, tokens=0):
    """A table of positions on the grid of a model.

    Args:
        name (str): Of the table, for messages.
        table (Tensor): (1, P+L, C), (1, C, h, w), or of relative positions ((2h-1)(2w-1)+P, heads).
        own (Tensor): The model's.
        grid (tuple[int, int] | None): Rows and columns of ``own``; a table of four dimensions has them itself.
        source_grid (tuple[int, int] | None): Rows and columns of ``table``, if they are known.
        known (str): ``OURS``, ``SQUARE`` or ``EITHER``: what follows if they are not.
        tokens (int): Prefix tokens (class, register) that come with ``table``; it may have positions for them.

    Returns:
        tuple: The table, and how it was resized (``'12 x 12 to 8 x 18'``) or None.

    Raises:
        UserError: If the channels differ, or the grid is not known.
    """
    channels = 1 if table.dim() == 4 else -1
    if table.dim() != own.dim() or table.shape[channels] != own.shape[channels]:
        raise UserError(
            f'The weights hold {name} of shape {tuple(table.shape)}, the model {tuple(own.shape)}; '
            'are they of this architecture?'
        )
    if table.dim() == 4:  # the only kind that says its grid
        source, grid = tuple(table.shape[2:]), tuple(own.shape[2:])
    else:
        axis = table.dim() - 2
        extra = own.shape[axis] - _positions(name, grid)
        if table.dim() == 3:
            table, source = _with_prefix(name, table, extra, tokens, grid, source_grid, known)
        else:
            source = _source(name, table.shape[axis] - extra, grid, source_grid, known)
    if source == grid:
        return table, None
    return _resized(table, own, source, grid), f'{source[0]} x {source[1]} to {grid[0]} x {grid[1]}'


def tokens_of(name, state):
    """How many prefix tokens (class, register) lie beside a table of positions in a state dict."""
    body = name.removesuffix('pos_embed')
    found = (state.get(f'{body}{token}') for token in ('cls_token', 'reg_token'))
    return sum(token.shape[1] for token in found if token is not None and token.dim() > 1)


def is_axis(name):
    """Whether a name is that of a table of relative rows or columns."""
    return '.rel_pos.' in name and name.endswith(('.rows', '.columns'))


def is_table(name):
    """Whether a name is that of a table of positions."""
    return name.endswith((RELATIVE, 'pos_embed', 'pos_embed_win'))


def _positions(name, grid):
    h, w = grid
    return (2 * h - 1) * (2 * w - 1) if name.endswith(RELATIVE) else h * w


def _with_prefix(name, table, extra, tokens, grid, source_grid, known):
    """A table (1, P+L, C) with positions of as many prefix tokens as the model has, and its rows and columns.

    It has positions for all tokens that come with it, or for none (``no_embed_class``).
    """
    for theirs in dict.fromkeys((tokens, 0)):
        if theirs < extra:
            continue
        try:
            source = _source(name, table.shape[1] - theirs, grid, source_grid, known)
        except UserError:
            continue
        return torch.cat([table[:, :extra], table[:, theirs:]], 1), source
    return table, _source(name, table.shape[1] - extra, grid, source_grid, known)


def _source(name, count, own, source_grid, known):
    """Rows and columns of a table of so many positions."""
    if source_grid is not None:
        if _positions(name, source_grid) != count:
            raise UserError(
                f'{name} holds {count} positions, not the {_positions(name, source_grid)} of a grid of '
                f'{source_grid[0]} x {source_grid[1]}.'
            )
        return tuple(source_grid)
    root = math.isqrt(max(count, 0))
    side = (root + 1) // 2 if name.endswith(RELATIVE) else root
    square = known != OURS and _positions(name, (side, side)) == count
    same = known != SQUARE and _positions(name, own) == count
    if square and (not same or own == (side, side)):
        return side, side
    if same and not square:
        return own
    raise UserError(
        f"{name} holds {count} positions, the model's grid of {own[0]} x {own[1]} has {_positions(name, own)}, and the "
        'file does not say on which rows and columns: give them with --grid ROWS COLUMNS of tools/import_weights.py.'
    )


def _resized(table, own, source, grid):
    if table.dim() == 4:
        return interpolate(table, size=grid, mode='bicubic', antialias=True)
    if table.dim() == 2:
        return resize_rel_pos_bias_table(table, grid, tuple(own.shape), old_window_size=source)
    return resample_abs_pos_embed(table, list(grid), list(source), own.shape[1] - grid[0] * grid[1])


def resize_axis_table(table, length):
    """Interpolate a table (2*n-1, d) of relative rows or columns to (2*length-1, d), if it is for another length."""
    if len(table) == 2 * length - 1:
        return table
    return interpolate(table.T[None], size=2 * length - 1, mode='linear')[0].T
