"""What a training checkpoint holds, collected in every process, and how its tensors are read back in parts."""

import time
from collections.abc import Mapping
from typing import Any

import mmengine
import torch
from mmengine.dist import is_main_process
from mmengine.optim import OptimWrapperDict
from mmengine.runner import Runner
from mmengine.utils import get_git_hash
from torch import Tensor
from torch.distributed.tensor import DTensor

from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.fsdp import whole_model

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
    model = unwrap(runner.model)  # with sharded parameters, if it is FSDP2
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
    with whole_model(runner.model):  # as hooks may run it
        runner.call_hook('before_save_checkpoint', checkpoint=checkpoint)
    return checkpoint


class OptimizerTemplates:
    """The sharded parameters of an optimizer, by which their states in a checkpoint are cut.

    Called with the path of a tensor in a checkpoint, as :func:`~mae_toolkit.checkpoints.sharded.load_sharded` does, it
    gives a new tensor that is cut as the parameter is, or None if the parameter is whole. (What a sharded model has
    beside the optimizer is loaded as a whole, see ``FSDP2.whole``.)

    Args:
        optim_wrapper: The optimizer wrapper; None if there is none yet.
    """

    def __init__(self, optim_wrapper: Any) -> None:
        self._numbered: dict[tuple[Any, ...], list[Tensor]] = {}
        parts = optim_wrapper.items() if isinstance(optim_wrapper, OptimWrapperDict) else [(None, optim_wrapper)]
        for name, part in parts:
            groups = getattr(getattr(part, 'optimizer', None), 'param_groups', [])
            place = ('optimizer',) if name is None else ('optimizer', name)
            self._numbered[place] = [parameter for group in groups for parameter in group['params']]

    def __call__(self, place: tuple[Any, ...]) -> Tensor | None:
        """Return a new sharded tensor for a path in a checkpoint; None for one that is whole."""
        if len(place) < 4 or place[-3] != 'state' or type(place[-2]) is not int:
            return None
        numbered = self._numbered.get(place[:-3], [])
        own = numbered[place[-2]] if place[-2] < len(numbered) else None
        return torch.empty_like(own.detach()) if isinstance(own, DTensor) else None
