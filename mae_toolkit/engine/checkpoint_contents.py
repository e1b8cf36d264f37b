"""What a training checkpoint holds, gathered in every process, and tensors that are distributed over them."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import mmengine
import torch
from mmengine.dist import is_main_process
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmengine.utils import get_git_hash
from torch import Tensor, nn
from torch.distributed.tensor import DTensor, distribute_tensor

from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.files import atomic_write

AVERAGE = 'ema_state_dict'


def collect_checkpoint(
    runner: Runner, meta: Mapping[str, Any], save_optimizer: bool = True, save_param_scheduler: bool = True
) -> dict[str, Any]:
    """Collect what MMEngine's ``Runner.save_checkpoint`` saves, hooks included, without writing it.

    All processes call it: hooks may need all of them to compute what they add. Tensors are those of the model and the
    optimizer themselves, wherever they are.

    Args:
        runner: The runner.
        meta: The numbers of iterations and epochs.
        save_optimizer: Whether to add the state of the optimizer.
        save_param_scheduler: Whether to add the states of the schedules.
    """
    about = dict(meta, cfg=runner.cfg.pretty_text, seed=runner.seed, experiment_name=runner.experiment_name)
    about['time'] = time.strftime('%Y%m%d_%H%M%S', time.localtime())
    about['mmengine_version'] = mmengine.__version__ + (get_git_hash() if is_main_process() else '')
    if hasattr(runner.train_dataloader.dataset, 'metainfo'):
        about['dataset_meta'] = runner.train_dataloader.dataset.metainfo
    model = unwrap(runner.model)
    checkpoint = {'meta': about, 'state_dict': dict(model.state_dict()), 'message_hub': runner.message_hub.state_dict()}
    if save_optimizer:
        checkpoint['optimizer'] = runner.optim_wrapper.state_dict()
    planned = runner.param_schedulers
    if save_param_scheduler and planned is not None:
        if isinstance(planned, dict):
            states: Any = {name: [one.state_dict() for one in some] for name, some in planned.items()}
        else:
            states = [one.state_dict() for one in planned]
        checkpoint['param_schedulers'] = states
    runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
    return checkpoint


def is_distributed_model(model: nn.Module) -> bool:
    """Return whether parameters of a model are distributed over processes, as ``fully_shard`` leaves them."""
    return any(isinstance(parameter, DTensor) for parameter in model.parameters())


def save_gathered(
    runner: Runner,
    path: Path,
    file_client_args: Any = None,
    save_optimizer: bool = True,
    save_param_scheduler: bool = True,
    meta: dict[str, Any] | None = None,
    by_epoch: bool = True,
    backend_args: Any = None,
) -> None:
    """Save a model whose tensors are distributed as one file; all processes call it.

    Args:
        runner: The runner.
        path: The file.
        file_client_args: Ignored, as ``backend_args``: the file is written to a local disk.
        save_optimizer: Whether to add the state of the optimizer.
        save_param_scheduler: Whether to add the states of the schedules.
        meta: The numbers of iterations and epochs; those after this iteration if None.
        by_epoch: Whether it is saved at the end of an epoch.
        backend_args: Ignored.
    """
    now = dict(epoch=runner.epoch + 1, iter=runner.iter) if by_epoch else dict(epoch=runner.epoch, iter=runner.iter + 1)
    checkpoint = collect_checkpoint(runner, now | (meta or {}), save_optimizer, save_param_scheduler)
    whole = gather_whole(checkpoint)
    if is_main_process():
        atomic_write(path, lambda file: torch.save(whole, file))


def gather_whole(value: Any) -> Any:
    """Replace distributed tensors in a checkpoint by whole ones, on the CPU of the first process; all call it."""
    if isinstance(value, dict):
        return {key: gather_whole(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)) and type(value) in (list, tuple):
        return type(value)(gather_whole(item) for item in value)
    if isinstance(value, DTensor):
        whole = value.full_tensor().detach()
        return whole.cpu() if is_main_process() else None
    return value.detach().cpu() if isinstance(value, Tensor) else value


class DistributedTemplates:
    """The distributed tensors of a model and its optimizer, by which those of a checkpoint are cut.

    Called with the path of a tensor in a checkpoint, as :func:`~mae_toolkit.checkpoints.sharded.load_sharded` does, it
    gives a new tensor that is cut alike, or None if the one of the model is on every process as a whole.

    Args:
        model: The model, without a wrapper for data parallelism.
        optim_wrapper: The optimizer wrapper; None if there is none yet.
    """

    def __init__(self, model: nn.Module, optim_wrapper: Any = None) -> None:
        self._own = {name: tensor for name, tensor in model.state_dict().items() if isinstance(tensor, DTensor)}
        self._numbered: dict[tuple[Any, ...], list[Tensor]] = {}
        parts = optim_wrapper.items() if isinstance(optim_wrapper, OptimWrapperDict) else [(None, optim_wrapper)]
        for name, part in parts:
            groups = getattr(getattr(part, 'optimizer', None), 'param_groups', [])
            place = ('optimizer',) if name is None else ('optimizer', name)
            self._numbered[place] = [parameter for group in groups for parameter in group['params']]

    def __bool__(self) -> bool:
        """Return whether any tensor of the model is distributed."""
        return bool(self._own)

    def __call__(self, place: tuple[Any, ...]) -> Tensor | None:
        """Return a new distributed tensor for a path in a checkpoint; None for one that is whole."""
        own = self._find(place)
        return None if own is None else torch.empty_like(own.detach(), requires_grad=False)

    def distribute(self, checkpoint: dict[str, Any]) -> dict[str, Any]:
        """Cut the whole tensors of a checkpoint as those of the model and its optimizer are."""

        def cut(value: Any, place: tuple[Any, ...]) -> Any:
            if isinstance(value, dict):
                return {key: cut(item, (*place, key)) for key, item in value.items()}
            own = self._find(place) if isinstance(value, Tensor) and not isinstance(value, DTensor) else None
            if own is None or own.shape != value.shape:
                return value
            mesh = own.device_mesh
            return distribute_tensor(value.to(mesh.device_type), mesh, own.placements, src_data_rank=None)

        return {key: cut(value, (key,)) for key, value in checkpoint.items()} if self else checkpoint

    def _find(self, place: tuple[Any, ...]) -> Any:
        if place[0] in ('state_dict', AVERAGE) and len(place) == 2:
            name = str(place[1])
            return self._own.get(name.removeprefix('module.') if place[0] == AVERAGE else name)
        if len(place) > 3 and place[-3] == 'state' and type(place[-2]) is int:
            numbered = self._numbered.get(place[:-3], [])
            own = numbered[place[-2]] if place[-2] < len(numbered) else None
            return own if isinstance(own, DTensor) else None
        return None
