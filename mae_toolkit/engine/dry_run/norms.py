"""Find norms that would see a single value per channel in training, which has no variance."""

import copy
import functools
from math import inf
from typing import Any, NamedTuple

import torch
from mmengine.dataset import DefaultSampler
from mmengine.dist import all_reduce, get_world_size
from mmengine.model import BaseModel, is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, SequentialSampler, SubsetRandomSampler
from torch.utils.data.distributed import DistributedSampler

from mae_toolkit.datasets.keyed_samplers import KeyedSampler
from mae_toolkit.datasets.samplers import EpochSampler
from mae_toolkit.engine._mmengine import compute_losses
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.engine.dry_run.samples import draw_first_keys, load_batches
from mae_toolkit.errors import UserError

FINITE_SAMPLERS = (
    EpochSampler,
    DefaultSampler,
    DistributedSampler,
    SequentialSampler,
    RandomSampler,
    SubsetRandomSampler,
)


class Batch(NamedTuple):
    """The smallest batch of a process.

    Attributes:
        size: Number of images.
        is_last: Whether it is the last batch of an epoch, and smaller than the others.
    """

    size: int
    is_last: bool


class SingleValue(Exception):
    """Exception for a norm that was given a single value to compute mean and variance of.

    Args:
        norm: The norm.
        name: Its name in the model.
        shape: Shape of its input.
    """

    def __init__(self, norm: nn.Module, name: str, shape: torch.Size) -> None:
        super().__init__(name)
        self.norm, self.name, self.shape = norm, name, shape


def check_norms(runner: Runner) -> None:
    """Refuse a run in which a norm would be given single values.

    A copy of the model computes the losses of one image. It does so only where a batch of a process may have a single
    image, or the model has instance norms, and if there are norms that use the statistics of the batch.

    Args:
        runner: The runner; call this within :func:`~mae_toolkit.engine.dry_run.traces.leave_no_trace`.

    Raises:
        UserError: With the batch, the norm and the remedy.
    """
    model, loader = unwrap(runner.model), runner.train_loop.dataloader
    if not isinstance(model, BaseModel) or type(model).train_step is not BaseModel.train_step:
        return  # what such a model does in a step is not known
    if is_model_wrapper(runner.model) and not isinstance(runner.model, DistributedDataParallel):
        return  # it holds only a part of the weights
    steps = getattr(runner.train_loop, 'max_iters', inf)
    if getattr(runner.train_loop, 'iter', 0) >= steps:
        return
    smallest = find_smallest_batch(loader, steps)
    size = torch.tensor(smallest.size)
    all_reduce(size, 'min')  # all processes try, or none, as losses may be reduced over them
    wanted = (_InstanceNorm,) if size > 1 else (_BatchNorm, _InstanceNorm, nn.GroupNorm)
    if not any(isinstance(module, wanted) for module in model.modules()):
        return
    try:
        tried = copy.deepcopy(model).train()
    except (TypeError, RuntimeError):  # it holds what cannot be copied
        return
    names = {name: module for name, module in tried.named_modules() if isinstance(module, wanted)}
    names = {name: module for name, module in names.items() if uses_batch(module)}
    if not names:
        return
    for name, module in names.items():
        module.register_forward_pre_hook(functools.partial(_check_input, name))
    found = _try(runner, tried, loader, min(smallest.size, 2))
    if found is not None:
        raise UserError(_describe(found, smallest, loader))


def find_smallest_batch(loader: DataLoader, max_iters: float) -> Batch:
    """Return the smallest batch that occurs in training.

    Args:
        loader: Data loader of the training.
        max_iters: Number of iterations; if they are fewer than an epoch, its last batch does not occur.
    """
    size = getattr(loader.batch_sampler, 'batch_size', None) or loader.batch_size or 2
    sampler: Any = getattr(loader.batch_sampler, 'sampler', None)
    drops = getattr(loader.batch_sampler, 'drop_last', True)
    if drops or not isinstance(loader.batch_sampler, BatchSampler) or not is_finite(sampler):
        return Batch(size, False)
    last = len(sampler) % size
    return Batch(last, True) if last and len(loader) <= max_iters else Batch(size, False)


def is_finite(sampler: Any) -> bool:
    """Return whether the epochs of a sampler end; those of MMEngine's ``InfiniteSampler`` do not."""
    return isinstance(sampler.sampler if isinstance(sampler, KeyedSampler) else sampler, FINITE_SAMPLERS)


def uses_batch(norm: nn.Module) -> bool:
    """Return whether a norm computes mean and variance of its input, as it does in training unless it is frozen."""
    if isinstance(norm, nn.SyncBatchNorm) and norm.training and get_world_size() > 1:
        return False  # it uses the values of all processes
    return isinstance(norm, nn.GroupNorm) or norm.training or norm.running_mean is None


def _check_input(name: str, norm: nn.Module, inputs: tuple[Tensor, ...]) -> None:
    """Stop at a norm that is given a single value."""
    x = inputs[0]
    spatial = x.shape[2:].numel()
    if isinstance(norm, _InstanceNorm):
        values = spatial if x.dim() > 2 else 2
    elif isinstance(norm, nn.GroupNorm):
        values = x.shape[:2].numel() * spatial // norm.num_groups
    else:
        values = x.shape[0] * spatial
    if values == 1:
        raise SingleValue(norm, name, x.shape)


@torch.no_grad()
def _try(runner: Runner, model: BaseModel, loader: DataLoader, images: int) -> SingleValue | None:
    """Compute the losses of a few images, and return the first norm that is given a single value, if any."""
    keys = draw_first_keys(loader, images)
    if not keys or not any(keys):
        return None
    try:
        dataset = loader.dataset if loader.num_workers else copy.deepcopy(loader.dataset)  # it may hold a cache
        batch = load_batches(loader, [[key for part in keys for key in part]], dataset).batches[0]
        with runner.optim_wrapper.optim_context(model):
            compute_losses(model, batch)
    except SingleValue as found:
        return found
    except Exception:
        # The first step of training raises it with its trace, unless it comes from hooks that are not called here.
        if get_world_size() > 1:  # the other processes may wait for this one
            raise
    return None


def _describe(found: SingleValue, smallest: Batch, loader: Any) -> str:
    """Describe the norm and the batch in a sentence with the remedy."""
    kind, shape = type(found.norm).__name__, ' x '.join(map(str, found.shape))
    if isinstance(found.norm, _InstanceNorm):
        return (
            f'{found.name} ({kind}) is given maps of one position ({shape}), and takes mean and variance of each map: '
            'train on larger images, or choose another norm there.'
        )
    what = f'{found.name} ({kind}) is given one value per channel ({shape}), which has no variance'
    if smallest.is_last:
        process = ' in a process' if get_world_size() > 1 else ''
        images, size = len(loader.batch_sampler.sampler), loader.batch_sampler.batch_size
        return (
            f'The last batch of an epoch{process} has 1 image ({images} images, batch_size={size}), and '
            f'in it {what}: set train_dataloader.drop_last=True, or a batch_size that leaves no single image.'
        )
    synchronized = ', or sync_bn=torch' if get_world_size() > 1 else ''
    return (
        f'In training with batch_size={smallest.size}, {what}: set train_dataloader.batch_size=2 or more{synchronized}'
        ", or choose a norm that needs no batch, as in norm_cfg=dict(type='LN')."
    )
