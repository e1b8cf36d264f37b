"""Record the operators of a training step: what each computes, reads and writes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import conv_flop_count, flop_registry

from mae_toolkit.flops import count_convolution_backward

aten = torch.ops.aten
ATTENTION = ('_scaled_dot_product_flash_attention', '_scaled_dot_product_efficient_attention')
# Tiles of FlashAttention-2 (arXiv:2307.08691, section 3.3), and the size of a head that fills tensor cores.
QUERY_TILE, KEY_TILE, FULL_HEAD = 128, 64, 64
# Kernels of their own, into which torch.compile fuses nothing.
SINGLE = (
    'sort',
    'topk',
    'index_put',
    'scatter',
    'embedding',
    'cumsum',
    'convolution',
    'max_pool',
    'avg_pool',
    'upsample',
)


@dataclass(frozen=True)
class Part:
    """A tensor that an operator reads or writes.

    Attributes:
        storage: Number of its storage.
        nbytes: Its bytes.
        fixed: Whether it has the shape of a parameter, or of one that is transposed, and does not grow with the batch.
    """

    storage: int
    nbytes: int
    fixed: bool = False


@dataclass
class Operator:
    """One operator of a step.

    Attributes:
        name: Its name in ATen.
        kind: ``'matmul'``, ``'attention'``, ``'depthwise'`` or ``'memory'``; ``'memory'`` moves bytes alone.
        flops: Floating-point operations of matrix products and convolutions.
        work: Those that a GPU does for them, with what its tiles compute in vain.
        sides: Sides of the matrices of a product, in numbers; none for all else.
        reads: Tensors that it reads.
        writes: Tensors that it writes.
        fusible: Whether ``torch.compile`` may fuse it with its neighbors.
    """

    name: str
    kind: str
    flops: int
    reads: list[Part]
    writes: list[Part]
    fusible: bool
    work: int = 0
    sides: tuple[int, ...] = ()


class OperatorRecorder(TorchDispatchMode):
    """Dispatch mode that records every operator that computes something; views are left out.

    Args:
        parameters: Those of the model.

    Attributes:
        operators: What ran, in order.
    """

    def __init__(self, parameters: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self._shapes = {tuple(sorted(parameter.shape)) for parameter in parameters}
        self.operators: list[Operator] = []
        self._kept: list[Any] = []  # storages, so that no address is used twice
        self._numbers: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator and record it."""
        kwargs = kwargs or {}
        given = list(_tensors((args, kwargs)))
        out = func(*args, **kwargs)
        made = list(_tensors(out))
        written = [tensor for tensor in made if not func.is_view]
        if written:
            self._record(func, args, kwargs, out, given, written)
        return out

    def number(self, tensor: Tensor) -> int:
        """Return the number of a tensor's storage, the same for all its views."""
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self._numbers:
            self._numbers[key] = len(self._numbers)
            self._kept.append(storage)
        return self._numbers[key]

    def _record(self, func: Any, args: Any, kwargs: Any, out: Any, given: list, written: list) -> None:
        name = func.overloadpacket.__name__
        if name in ('detach', 'empty', 'empty_like', 'empty_strided', 'new_empty', 'new_empty_strided', 'lift_fresh'):
            return
        flops = count_operator(func, args, kwargs, out)
        kind = 'memory' if not flops else _find_kind(func, args)
        fusible = not flops and not any(part in name for part in SINGLE)
        reads = [self._part(tensor) for tensor in given]
        writes = [self._part(tensor) for tensor in written]
        work = flops if kind != 'attention' else round(flops * _count_padding(*args[: 2 + ('backward' in name)][-2:]))
        sides = _find_sides(func, args) if kind == 'matmul' else ()
        self.operators.append(Operator(name, kind, flops, reads, writes, fusible, work, sides))

    def _part(self, tensor: Tensor) -> Part:
        nbytes = tensor.numel() * tensor.element_size()
        fixed = tuple(sorted(tensor.shape)) in self._shapes
        return Part(self.number(tensor), min(nbytes, tensor.untyped_storage().nbytes()), fixed)


def count_operator(func: Any, args: Any, kwargs: Any, out: Any) -> int:
    """Count the floating-point operations of a matrix product, a convolution or an attention; 0 for all else."""
    packet = func.overloadpacket
    name = packet.__name__
    if name.startswith(ATTENTION):
        query, key = (args[1], args[2]) if 'backward' in name else (args[0], args[1])
        b, h, n, d = query.shape
        product = 2 * b * h * n * key.shape[2] * d
        return product * (5 if 'backward' in name else 2)  # the backward pass computes the scores once more
    if name == 'convolution_backward':
        shapes = [list(args[i].shape) for i in range(3)]
        return count_convolution_backward(*shapes, *args[3:])
    if name == 'convolution':
        return conv_flop_count(list(args[0].shape), list(args[1].shape), list(out.shape), transposed=args[6])
    if packet not in flop_registry:
        return 0
    return flop_registry[packet](*args, **kwargs, out_val=out)


def _find_kind(func: Any, args: Any) -> str:
    if func.overloadpacket.__name__.startswith(ATTENTION):
        return 'attention'
    return 'depthwise' if _is_depthwise(func, args) else 'matmul'


def _count_padding(query: Tensor, key: Tensor) -> float:
    """Return how many times the operations of an attention its tiles compute; half the rate of small heads counts, too.

    Heads of less than 64 numbers leave as many exponentials for fewer operations.
    """
    (_, _, n, d), m = query.shape, key.shape[2]
    tiles = math.ceil(n / QUERY_TILE) * QUERY_TILE * math.ceil(m / KEY_TILE) * KEY_TILE
    return tiles / (n * m) * max(1.0, FULL_HEAD / d)


def _find_sides(func: Any, args: Any) -> tuple[int, ...]:
    """Return the sides of the matrices that an operator multiplies, of a convolution those of its unfolded weights."""
    name = func.overloadpacket.__name__
    if name.startswith('convolution'):
        weight = args[2] if name.endswith('backward') else args[1]
        return weight.shape[0], math.prod(weight.shape[1:])
    shapes = [arg.shape[-2:] for arg in args if isinstance(arg, Tensor) and arg.dim() > 1][-2:]
    return tuple(side for shape in shapes for side in shape)


def _is_depthwise(func: Any, args: Any) -> bool:
    """Return whether an operator is a convolution of one channel per group."""
    name = func.overloadpacket.__name__
    if name not in ('convolution', 'convolution_backward'):
        return False
    weight, groups = (args[2], args[9]) if name.endswith('backward') else (args[1], args[8])
    return groups > 1 and weight.shape[1] == 1


def _tensors(values: Any) -> Iterator[Tensor]:
    return (value for value in tree_leaves(values) if isinstance(value, Tensor))
