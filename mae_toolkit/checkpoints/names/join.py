"""Tensors that others keep apart and timm keeps in one: queries, keys and values of attention.

A table gives each of them a name of its own on our side (``attn.query.weight``); they are put together after a table
was read from left to right, and taken apart before it is read from right to left.
"""

import re
from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor


class Join(NamedTuple):
    """Tensors of which one is made, along their first dimension.

    Attributes:
        parts: Their layers, in this order: ``('attn.query', 'attn.key', 'attn.value')``.
        whole: The layer that holds all of them: ``'attn.qkv'``.
        params: A regular expression of what they are: ``'weight|bias'``.
    """

    parts: tuple[str, ...]
    whole: str
    params: str = 'weight|bias'

    def rename(self, name: str) -> str:
        """Return the name of the whole for that of a part; any other name as it is."""
        found = self._find(name, self.parts)
        return name if found is None else f'{found[1]}{self.whole}.{found[3]}'

    def join(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Put tensors together; parts of which one is missing stay as they are, and loading refuses them."""
        joined: dict[str, Tensor] = {}
        for name, tensor in state.items():
            found = self._find(name, self.parts)
            names = [f'{found[1]}{part}.{found[3]}' for part in self.parts] if found else []
            if found is None or any(part not in state for part in names):
                joined[name] = tensor
            elif name == names[0]:
                joined[self.rename(name)] = torch.cat([state[part] for part in names])
        return joined

    def split(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Take tensors apart: the inverse of :meth:`join`."""
        parts: dict[str, Tensor] = {}
        for name, tensor in state.items():
            found = self._find(name, (self.whole,))
            if found is None:
                parts[name] = tensor
            else:
                named = zip(self.parts, tensor.chunk(len(self.parts)), strict=True)
                parts |= {f'{found[1]}{part}.{found[3]}': chunk.clone() for part, chunk in named}
        return parts

    def _find(self, name: str, layers: tuple[str, ...]) -> re.Match[str] | None:
        """Find one of these layers in a name: what is before it, the layer, and the parameter."""
        return re.fullmatch(rf'(.*\.)({"|".join(map(re.escape, layers))})\.({self.params})', name)


QKV = Join(('attn.query', 'attn.key', 'attn.value'), 'attn.qkv')
# Of attention whose keys have no bias (Swin V2): the other biases have names of their own in timm, too.
QKV_WEIGHTS = QKV._replace(params='weight')
