"""Feature maps made comparable: normalized per position or per channel, and averaged over levels."""

from collections.abc import Callable, Sequence

from torch import Tensor
from torch.nn.functional import group_norm, layer_norm

from mae_toolkit.errors import UserError

# Neither norm has learned factors; the epsilon is torch's.
NORMS: dict[str | None, Callable[[Tensor], Tensor]] = {
    'layer': lambda x: layer_norm(x.permute(0, 2, 3, 1), x.shape[1:2]).permute(0, 3, 1, 2),
    'instance': lambda x: group_norm(x, x.shape[1]),
    None: lambda x: x,
}


def check_norm(norm: str | None) -> str | None:
    """Return the name of a norm, or refuse it.

    Raises:
        UserError: If the name is not a key of ``NORMS``.
    """
    if norm not in NORMS:
        raise UserError(f"norm={norm!r} must be 'layer', 'instance' or None.")
    return norm


def average_maps(maps: Sequence[Tensor], norm: str | None) -> Tensor:
    """Normalize maps (B, C, h, w) of one shape, and average them.

    Args:
        maps: At least one map.
        norm: ``'layer'`` over the channels of each position, ``'instance'`` over the positions of each channel of an
            image, or None.
    """
    first, *others = (NORMS[norm](x) for x in maps)
    return sum(others, first) / len(maps)
