"""Weights of half the size."""

from torch import Tensor

from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count


def round_weights(state: dict[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Round weights to float16, if that is asked for.

    Args:
        state: The tensors by name.
        half: Whether to round them.

    Raises:
        UserError: If one is too large for it.
    """
    if not half:
        return state
    found = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    if large := [name for name, value in found.items() if not value.isfinite().all()]:
        raise UserError(
            f'{format_count(len(large), "weight")} cannot be held in float16, the first {large[0]}: write them without '
            '--half.'
        )
    return found
