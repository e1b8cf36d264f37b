"""Feature maps made comparable: normalized per position or per channel, and averaged over levels."""

from torch.nn.functional import group_norm, layer_norm

from mae_toolkit.errors import UserError

# Neither has learned factors; the epsilon is torch's.
NORMS = {
    'layer': lambda x: layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2),
    'instance': lambda x: group_norm(x, x.shape[1]),
    None: lambda x: x,
}


def check_norm(norm):
    """Return the name of a norm, or refuse it.

    Raises:
        UserError: If it is none of those above.
    """
    if norm not in NORMS:
        raise UserError(f"norm={norm!r} is none of 'layer', 'instance' and None.")
    return norm


def averaged(maps, norm):
    """Mean of maps (B, C, h, w), each normalized first.

    Args:
        maps (Sequence[Tensor]): Of one shape.
        norm (str | None): ``'layer'`` over the channels of each position, ``'instance'`` over the positions of each
            channel of an image, or None.
    """
    return sum(NORMS[norm](x) for x in maps) / len(maps)
