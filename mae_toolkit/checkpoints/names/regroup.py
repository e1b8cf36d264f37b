"""Tensors that are one in one place and several in another, as queries, keys and values are.

Example: the layers of queries, keys and values are one layer in timm, ``qkv``. A format that has three writes them as
``Regroup(('q.{param}', 'k.{param}', 'v.{param}'), ('qkv.{param}',))``, and its table has a pair for ``qkv.{param}``.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from mae_toolkit.checkpoints.names.template import Template, find_patterns


class Regroup(NamedTuple):
    """A tensor that is joined from several along its first dimension, or cut into several of the same size.

    Attributes:
        theirs: Templates of the names in the file, with the same fields; an empty one is that of zeros, which are not
            in the file.
        table: In the same way the names that the table of the format has.
    """

    theirs: tuple[str, ...]
    table: tuple[str, ...]

    def invert(self) -> 'Regroup':
        """Return the inverse."""
        return Regroup(self.table, self.theirs)

    def apply(self, state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
        """Regroup the tensors of a checkpoint wherever all of a group are there.

        Args:
            state: The tensors by name.

        Returns:
            The tensors by their new names, others by their own; and the old names by the new ones.
        """
        patterns = find_patterns(*self.theirs, *self.table)
        before, after = ([name and Template(name, patterns) for name in side] for side in (self.theirs, self.table))
        first = next(template for template in before if template)
        origin: dict[str, tuple[str, ...]] = {}
        state = dict(state)
        for fields in [fields for name in state if (fields := first.parse(name)) is not None]:
            names = tuple(template.fill(fields) if template else '' for template in before)
            if not all(name in state for name in names if name):
                continue
            tensors = {name: state.pop(name) for name in names if name}
            like = next(iter(tensors.values()))
            joined = torch.cat([tensors.get(name, torch.zeros_like(like)) for name in names])
            for template, part in zip(after, joined.tensor_split(len(after)), strict=True):
                if template:
                    state[template.fill(fields)] = part
                    origin[template.fill(fields)] = tuple(tensors)
        return state, origin


def regroup(
    groups: tuple[Regroup, ...], state: Mapping[str, Tensor]
) -> tuple[dict[str, Tensor], dict[str, tuple[str, ...]]]:
    """Apply several, one after the other; see :meth:`Regroup.apply`."""
    origin: dict[str, tuple[str, ...]] = {}
    state = dict(state)
    for group in groups:
        state, new = group.apply(state)
        origin |= new
    return state, origin
