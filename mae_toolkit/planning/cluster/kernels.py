"""Group the operators of a step into the kernels that run: one each, or fused as torch.compile does."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from mae_toolkit.planning.cluster.operators import Operator


@dataclass
class Kernel:
    """One launch: operations, and bytes that go through the device's memory.

    Attributes:
        kind: See :class:`Operator`.
        flops: Floating-point operations, with those of tiles that are computed in vain.
        nbytes: Bytes read and written.
        backward: Whether it belongs to the backward pass.
        side: Smallest side of the matrices of a product; 0 for all else.
    """

    kind: str
    flops: int
    nbytes: int
    backward: bool
    side: int = 0


@dataclass
class _Group:
    first: int  # index of its first operator
    members: list[int] = field(default_factory=list)
    inside: set[int] = field(default_factory=set)  # storages that it writes


def list_kernels(operators: Sequence[Operator], backward_begins: int) -> list[Kernel]:
    """Return a kernel for every operator, as without ``torch.compile``."""
    kernels = []
    for i, operator in enumerate(operators):
        nbytes = sum(part.nbytes for part in (*operator.reads, *operator.writes))
        kernels.append(_make_kernel(operator, nbytes, i >= backward_begins))
    return kernels


def fuse_kernels(operators: Sequence[Operator], backward_begins: int) -> list[Kernel]:
    """Return the kernels of ``torch.compile``, about: operators that move bytes join the one whose result they read.

    A group reads what others wrote once, and writes what others read or what is left at the end. An operator joins the
    latest group among its inputs, unless another input is made only after that group has begun.
    """
    groups = _group(operators, backward_begins)
    owner = {i: n for n, group in enumerate(groups) for i in group.members}
    readers: dict[int, set[int]] = {}
    for i, operator in enumerate(operators):
        for part in operator.reads:
            readers.setdefault(part.storage, set()).add(owner[i])
    kernels = []
    for n, group in enumerate(groups):
        reads: dict[int, int] = {}
        writes: dict[int, int] = {}
        for i in group.members:
            for part in operators[i].reads:
                if part.storage not in group.inside or not operators[i].fusible:
                    reads[part.storage] = max(reads.get(part.storage, 0), part.nbytes)
            for part in operators[i].writes:
                users = readers.get(part.storage, set())
                if users - {n} or not users:
                    writes[part.storage] = max(writes.get(part.storage, 0), part.nbytes)
        head = operators[group.first]
        nbytes = sum(reads.values()) + sum(writes.values())
        kernels.append(_make_kernel(head, nbytes, group.first >= backward_begins))
    return kernels


def _make_kernel(operator: Operator, nbytes: int, backward: bool) -> Kernel:
    return Kernel(operator.kind, operator.work, nbytes, backward, min(operator.sides, default=0))


def _group(operators: Sequence[Operator], backward_begins: int) -> list[_Group]:
    groups: list[_Group] = []
    maker: dict[int, tuple[int, _Group]] = {}  # of a storage: index of the operator that wrote it, and its group
    for i, operator in enumerate(operators):
        made = [maker[part.storage] for part in operator.reads if part.storage in maker]
        joined = None
        if operator.fusible and made:
            candidates = [g for _, g in made if operators[g.first].fusible]
            latest = max(candidates, key=lambda g: g.first, default=None)
            if latest is not None and _may_join(i, latest, made, backward_begins):
                joined = latest
        if joined is None:
            joined = _Group(i)
            groups.append(joined)
        joined.members.append(i)
        for part in operator.writes:
            joined.inside.add(part.storage)
            maker[part.storage] = (i, joined)
    return groups


def _may_join(i: int, group: _Group, made: Sequence[tuple[int, _Group]], backward_begins: int) -> bool:
    """Return whether an operator is of the same pass as a group, and all its other inputs are made before the group."""
    same_pass = (group.first >= backward_begins) == (i >= backward_begins)
    return same_pass and all(g is group or at < group.first for at, g in made)
