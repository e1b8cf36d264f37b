"""Data parallelism for models beyond the memory of one GPU: parameters, gradients and optimizer sharded (FSDP2)."""

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.dist import broadcast
from mmengine.optim import OptimWrapper
from torch import Tensor, distributed, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method

from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.protocols import ListsBlocks
from mae_toolkit.registry import MODEL_WRAPPERS

PLAIN = (bool, int, float, str, tuple, type(None))


@MODEL_WRAPPERS.register_module()
class FSDP2(nn.Module):
    """Model wrapper that shards parameters, gradients and the optimizer's state over all processes.

    Each block of the encoder, the decoder and teachers is gathered for the time in which it computes, forward and
    backward (``torch.distributed.fsdp.fully_shard``); what is between the blocks is gathered during the whole forward
    pass. The numbers are those of data parallelism. Activations are saved by ``with_cp`` of encoder and decoder.

    What needs the whole model without a gradient, as saving, loading, pictures and validation, runs within
    :meth:`whole`, where :attr:`module` is an ordinary model.

    Args:
        module: A model with an encoder of ours: a :class:`MaskedAutoencoder` or a :class:`Classifier`.
        param_dtype: ``'bfloat16'`` gathers the parameters of blocks in this type and computes blocks in it, with what
            passes from block to block, which halves traffic and memory of what is gathered; it goes with an optimizer
            wrapper that autocasts all else. The shards, on which the optimizer works, remain float32, and gradients are
            summed in float32. None gathers float32.
        reshard_after_forward: Free a block after its forward pass and gather it once more for the backward pass.
        sync_while_accumulating: Sum gradients over the processes in every iteration that accumulates, too. It costs
            traffic, and saves the memory of a whole gradient in each process.

    Raises:
        UserError: If there is a single process without a process group, the type is another one, or the model has no
            encoder of ours.
    """

    module: Any

    def __init__(
        self,
        module: nn.Module,
        param_dtype: str | None = None,
        reshard_after_forward: bool = True,
        sync_while_accumulating: bool = False,
    ) -> None:
        super().__init__()
        _check(module, param_dtype)
        self.param_dtype, self.sync_while_accumulating = param_dtype, sync_while_accumulating
        kind = 'cuda' if torch.cuda.is_available() else 'cpu'
        if isinstance(preprocessor := getattr(module, 'data_preprocessor', None), nn.Module):
            preprocessor.to(torch.device(kind, torch.cuda.current_device()) if kind == 'cuda' else kind)
        for tensor in (*module.parameters(), *module.buffers()):
            tensor.data = tensor.data.contiguous()  # fully_shard takes no channels_last kernels
            broadcast(tensor.data)  # the weights of the first process, as seeds may differ
        self._whole = (_copy_without_parameters(module),)  # in a tuple: it is no part of this module
        self._is_whole = False
        self.module = module
        mesh = init_device_mesh(kind, (distributed.get_world_size(),))
        policy = MixedPrecisionPolicy(
            param_dtype=getattr(torch, param_dtype) if param_dtype else None,
            reduce_dtype=torch.float32,
            cast_forward_inputs=True,
        )
        for block in find_blocks(module):
            is_trained = any(parameter.requires_grad for parameter in block.parameters())
            # Only a backward pass would free what has no gradient.
            fully_shard(
                block, mesh=mesh, mp_policy=policy, reshard_after_forward=reshard_after_forward or not is_trained
            )
            setattr(block, 'run_function', _call)  # noqa: B010 (a function is no module or tensor)
            register_fsdp_forward_method(block, 'run_function')
        fully_shard(module, mesh=mesh)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the model."""
        return self.module(*args, **kwargs)

    def train_step(self, data: Any, optim_wrapper: OptimWrapper) -> dict[str, Tensor]:
        """Train on a batch, as MMEngine's wrappers do, and return what is logged."""
        self.module.set_requires_gradient_sync(self.sync_while_accumulating or optim_wrapper.should_sync())
        with optim_wrapper.optim_context(self):
            losses = self(**self.module.data_preprocessor(data, True), mode='loss')
        loss, logged = self.module.parse_losses(losses)
        optim_wrapper.update_params(loss)
        return logged

    def val_step(self, data: Any) -> Any:
        """Predict for a batch of the validation; all processes within :meth:`whole`."""
        return self.module.val_step(data)

    def test_step(self, data: Any) -> Any:
        """Predict for a batch of the test; all processes within :meth:`whole`."""
        return self.module.test_step(data)

    @contextmanager
    def whole(self, write_back: bool = False) -> Iterator[None]:
        """Let :attr:`module` be an ordinary model with all parameters in a ``with`` block, which all processes enter.

        Within it, each process may run the model by itself, or not at all. Buffers are shared with the sharded model,
        modes and numbers of modules are carried over at the beginning and at the end.

        Args:
            write_back: Take over the parameters at the end, as after loading; they have to be equal in all processes.
        """
        if self._is_whole:
            yield
            return
        sharded, (whole,) = self.module, self._whole
        for part in sharded.modules():
            if isinstance(part, FSDPModule):
                part.reshard()  # what an evaluation has left gathered
        parameters = dict(sharded.named_parameters())
        for name, parameter in parameters.items():
            _put(whole, name, nn.Parameter(parameter.detach().full_tensor(), parameter.requires_grad))
        _carry_over(sharded, whole)
        self.module, self._is_whole = whole, True
        try:
            yield
            if write_back:
                values = dict(whole.named_parameters())
                for name, parameter in parameters.items():
                    write_shard(parameter, values[name].detach())
            _carry_over(whole, sharded)
        finally:
            self.module, self._is_whole = sharded, False
            for name, parameter in parameters.items():
                _put(whole, name, nn.Parameter(torch.empty_like(parameter, device='meta'), parameter.requires_grad))


@contextmanager
def whole_model(model: nn.Module, write_back: bool = False) -> Iterator[None]:
    """Let every process have all parameters in a ``with`` block; see :meth:`FSDP2.whole`. Other models have them."""
    if isinstance(model, FSDP2):
        with model.whole(write_back):
            yield
    else:
        yield


def cut_shard(parameter: Any, value: Tensor) -> Tensor:
    """Return this process's part of a whole tensor of the shape of a sharded parameter."""
    mesh = parameter.device_mesh
    chunks, rank = value.chunk(mesh.size()), mesh.get_local_rank()
    local = chunks[rank] if rank < len(chunks) else value[:0]
    return local.to(parameter.device)


@torch.no_grad()
def write_shard(parameter: Any, value: Tensor) -> None:
    """Set a sharded parameter to a whole tensor that every process has."""
    parameter.to_local().copy_(cut_shard(parameter, value))


def _call(function: Callable, *inputs: Any) -> Any:
    return function(*inputs)


def _check(module: nn.Module, param_dtype: str | None) -> None:
    if param_dtype not in (None, 'bfloat16'):
        raise UserError(f"FSDP2: param_dtype={param_dtype!r} must be 'bfloat16', or None for float32.")
    if not distributed.is_initialized():
        raise UserError('FSDP2 shards a model over processes: start with --launcher pytorch, slurm or mpi.')
    if not isinstance(getattr(module, 'encoder', None), Encoder):
        raise UserError(
            f'FSDP2 shards models with an encoder of this toolkit (MaskedAutoencoder, Classifier), and a '
            f'{type(module).__name__} is none: leave model_wrapper_cfg out for data parallelism.'
        )


def find_blocks(module: nn.Module) -> list[nn.Module]:
    """Return the blocks of all parts but the masking, whose teacher is also asked for what is within its blocks."""
    masking = getattr(module, 'masking', None)
    apart = set(masking.modules()) if isinstance(masking, nn.Module) else set()
    parts = [part for part in module.modules() if isinstance(part, ListsBlocks) and part not in apart]
    return [block for part in parts for block in part.list_blocks() if next(block.parameters(), None) is not None]


def _copy_without_parameters(module: nn.Module) -> nn.Module:
    """Copy a model, but with parameters on torch's device ``meta``, which holds no values, and the same buffers."""
    memo: dict[int, Any] = {id(buffer): buffer for buffer in module.buffers()}
    for parameter in module.parameters():
        memo[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device='meta'), parameter.requires_grad)
    return copy.deepcopy(module, memo)


def _put(module: nn.Module, name: str, tensor: Tensor) -> None:
    """Put a parameter or buffer into a model under its name."""
    path, _, last = name.rpartition('.')
    setattr(module.get_submodule(path), last, tensor)


def _carry_over(source: nn.Module, target: nn.Module) -> None:
    """Carry over buffers, modes, and numbers that hooks may have changed."""
    for name, buffer in source.named_buffers():
        _put(target, name, buffer)
    for one, other in zip(source.modules(), target.modules(), strict=True):
        known = vars(other)
        known.update({key: value for key, value in vars(one).items() if key in known and isinstance(value, PLAIN)})
