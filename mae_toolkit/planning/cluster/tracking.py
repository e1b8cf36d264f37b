"""Follow the memory of a step: what autograd keeps, and the greatest sum of all that is allocated."""

from __future__ import annotations

import weakref
from collections.abc import Iterable
from contextlib import AbstractContextManager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class SavedTensors:
    """The tensors that autograd saves for the backward pass.

    Attributes:
        tensors: All of them, several of which may share a storage.
    """

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []

    def hooks(self) -> AbstractContextManager:
        """Return a context in which tensors are saved here as well."""

        def pack(tensor: Tensor) -> Tensor:
            self.tensors.append(tensor)
            return tensor

        return torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor)

    def count(self, without: Iterable[Tensor] = ()) -> int:
        """Count the bytes of the storages, each once, but for those of some tensors such as parameters."""
        own = {tensor.untyped_storage()._cdata for tensor in without}
        storages = (tensor.untyped_storage() for tensor in self.tensors)
        return sum({s._cdata: s.nbytes() for s in storages if s._cdata not in own}.values())


class MemoryTracker(TorchDispatchMode):
    """Dispatch mode that adds up the storages that operators allocate, until they are freed.

    Attributes:
        current: Bytes that are allocated now.
        peak: The most so far.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.current = self.peak = 0
        self._live = {tensor.untyped_storage()._cdata for tensor in known}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Run an operator, and add what it allocates."""
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._add(tensor)
        return out

    def _add(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key, nbytes = storage._cdata, storage.nbytes()
        if key in self._live:
            return
        self._live.add(key)
        self.current += nbytes
        self.peak = max(self.peak, self.current)
        weakref.finalize(storage, self._free, key, nbytes)

    def _free(self, key: int, nbytes: int) -> None:
        self._live.discard(key)
        self.current -= nbytes
