"""Data parallelism where every process holds the whole model."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch import Tensor, distributed, nn
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import allreduce_hook, bf16_compress_hook
from torch.futures import Future

from mae_toolkit.errors import UserError
from mae_toolkit.registry import MODEL_WRAPPERS


@MODEL_WRAPPERS.register_module()
class DataParallel(MMDistributedDataParallel):
    """MMEngine's data parallelism, which can send gradients between processes in bfloat16.

    Args:
        module: The model.
        gradient_compression: ``'bfloat16'`` halves the traffic of each step: gradients are rounded to 8 bits of
            mantissa before they are summed. None sends them as they are.
        **kwargs: Arguments of :class:`torch.nn.parallel.DistributedDataParallel`.

    Raises:
        UserError: If ``gradient_compression`` is another type.
    """

    def __init__(self, module: nn.Module, gradient_compression: str | None = None, **kwargs: Any) -> None:
        if gradient_compression not in (None, 'bfloat16'):
            raise UserError(
                f"model_wrapper_cfg: gradient_compression={gradient_compression!r} must be 'bfloat16', or None for "
                'gradients as they are.'
            )
        super().__init__(module, **kwargs)
        self._is_first = True
        self._exchange = _Exchange(bf16_compress_hook if gradient_compression else allreduce_hook)
        if gradient_compression:
            self.register_comm_hook(self._exchange, _exchange_gradients)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Compute a step, or a part of one whose gradients are accumulated, and return its losses by name.

        Args:
            data: The batch.
            optim_wrapper: The optimizer wrapper.
        """
        self._exchange.is_off = False
        return super().train_step(data, optim_wrapper)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        """Accumulate gradients in a ``with`` block without sending them.

        With a static graph torch has to exchange something in the first iteration, in which it learns the graph. Each
        process gets back its own gradients then, so that what is summed later is the same, bit for bit, as in a run
        that did not begin here.
        """
        is_first, self._is_first = self._is_first, False
        if self.static_graph and is_first:
            if self._exchange.hook is allreduce_hook:
                self.register_comm_hook(self._exchange, _exchange_gradients)
            self._exchange.is_off = True
            yield
            return
        with super().no_sync():
            yield


class _Exchange:
    """How gradients are exchanged, and whether they are."""

    def __init__(self, hook: Callable[[Any, distributed.GradBucket], Future[Tensor]]) -> None:
        self.hook = hook
        self.is_off = False


def _exchange_gradients(state: _Exchange, bucket: distributed.GradBucket) -> Future[Tensor]:
    if not state.is_off:
        return state.hook(None, bucket)
    own: Future[Tensor] = Future()
    own.set_result(bucket.buffer())
    return own


def data_parallel_config(model: nn.Module | None = None) -> dict[str, Any]:
    """Return the ``model_wrapper_cfg`` for data parallelism on the GPU of this process, or on its CPU.

    Gradients are views of the buffers that are sent, which saves a copy of them. The graph is declared static for
    models that say ``has_static_graph``: each step computes with the same parameters in the same order, so that what is
    sent when is planned once. Detectors and segmenters do not promise it, as which of their layers compute may depend
    on the images, and a layer that the first step leaves out would never be synchronized.

    Args:
        model: The model.
    """
    device_ids = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    return dict(
        type='mae_toolkit.DataParallel',
        device_ids=device_ids,
        broadcast_buffers=False,
        gradient_as_bucket_view=True,
        static_graph=bool(getattr(model, 'has_static_graph', False)),
    )
