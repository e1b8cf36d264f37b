"""Parts of tensors that several processes share."""

from collections.abc import Iterable

from torch import Tensor


def take_local(tensors: Iterable[Tensor]) -> list[Tensor]:
    """Return this process's part of tensors that are sharded over processes (DTensors), and others as they are.

    The parts share their memory with the tensors, so that changes in place reach these.

    Args:
        tensors: Parameters or gradients, whose parts in this process may be empty.
    """
    return [tensor.to_local() if hasattr(tensor, 'to_local') else tensor for tensor in tensors]
