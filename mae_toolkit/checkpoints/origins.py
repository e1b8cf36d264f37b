"""Following tensors from the names that they have in a file to those that they get in a model.

Weights pass through tables of names and through timm's own filters, which rename, cut, join and resize them as they
like. A traced tensor remembers from which tensors of the file it was computed, whatever was done to it.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

Origins = dict[str, tuple[str, ...]]


class TracedTensor(Tensor):
    """A tensor that knows the names, in a file, of those from which it was computed.

    Attributes:
        origin: The names.
    """

    origin: frozenset[str] = frozenset()

    @classmethod
    def __torch_function__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Compute as a tensor does, and hand the names of the arguments on to the results."""
        result = super().__torch_function__(func, types, args, kwargs or {})
        names = frozenset[str]().union(*(x.origin for x in _find_traced((args, *(kwargs or {}).values()))))
        for traced in _find_traced(result):
            traced.origin = names
        return result


def trace(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that remember their names; they share their memory with those of ``state``."""
    traced: dict[str, Tensor] = {}
    for name, tensor in state.items():
        copy = tensor.detach().as_subclass(TracedTensor)
        copy.origin = frozenset([name])
        traced[name] = copy
    return traced


def find_origins(state: Mapping[str, Tensor]) -> Origins:
    """Return the names in the file of each tensor, in order; none for one that was not computed from the file's."""
    return {name: tuple(sorted(getattr(tensor, 'origin', ()))) for name, tensor in state.items()}


def untrace(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return plain tensors."""
    return {k: v.as_subclass(Tensor) if isinstance(v, TracedTensor) else v for k, v in state.items()}


def _find_traced(values: Any) -> Iterator[TracedTensor]:
    if isinstance(values, TracedTensor):
        yield values
    elif isinstance(values, (list, tuple)):
        for value in values:
            yield from _find_traced(value)
