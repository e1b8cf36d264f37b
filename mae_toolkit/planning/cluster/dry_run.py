"""Build one rank of many on this machine, and train two steps with collectives that send nothing."""

import copy
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from typing import Any

import torch
from mmengine.config import Config
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from mae_toolkit.engine import Runner
from mae_toolkit.engine.distributed import unwrap
from mae_toolkit.errors import UserError

IMAGES = 2  # of a step: enough to find wrong shapes, and few enough for any machine
STEPS = 2  # in the second one, DistributedDataParallel finds parameters that got no gradient


def dry_run(cfg: Config, gpus: int, rank: int = 0, batch: int | None = None, engine: str = 'ddp') -> str:
    """Build the run of one rank of many: model, wrapper, optimizer, data loader and schedules; and train two steps.

    Collectives are those of torch's fake process group: they change nothing and send nothing. What they would compute
    is wrong; shapes, sizes and numbers of iterations are right.

    Args:
        cfg: A config of pretraining. Nothing is written to its work directory.
        gpus: Number of ranks.
        rank: The rank that is built.
        batch: Images per GPU and step; those of the config if None. The steps that are tried take two images.
        engine: ``'fsdp2'`` to shard the model whatever the config says.

    Returns:
        What was built, in a few lines.

    Raises:
        UserError: If there is no such rank, or an epoch has no iteration; and what a run with this config raises.
    """
    if not 0 <= rank < gpus:
        raise UserError(f'--rank {rank}: {gpus} GPUs have the ranks 0 to {gpus - 1}.')
    cfg = _prepare(cfg, batch, engine)
    with tempfile.TemporaryDirectory() as folder, fake_ranks(gpus, rank):
        cfg.work_dir = folder
        runner = Runner.from_cfg(cfg)
        loop = runner.train_loop  # builds the data loader
        iterations, each = len(loop.dataloader), loop.dataloader.batch_size or cfg.train_dataloader.batch_size
        images = len(loop.dataloader.dataset)
        if not iterations:
            raise UserError(
                f'{gpus} GPUs of {each} images take {gpus * each} per step, but there are {images} images: an epoch '
                'has no iteration. Take fewer GPUs or fewer images per step.'
            )
        runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
        runner.param_schedulers = runner.build_param_scheduler(runner.param_schedulers)
        sent = _count_gradients(runner.model)
        losses = _train(runner, loop.dataloader)
        lines = [
            f'rank {rank} of {gpus}: {type(runner.model).__name__} of {type(unwrap(runner.model)).__name__}',
            f'{images} images, {len(loop.dataloader.sampler)} of them for this rank; {iterations} iterations of {each} '
            f'({each * gpus} in all) per epoch, {runner.max_iters} in all',
            f'{STEPS} steps of {IMAGES} images: loss {", ".join(f"{loss:.4g}" for loss in losses)}',
            *(
                [f'{sum(sent) / STEPS / 1e9:.4g} GB of gradients in {len(sent) // STEPS} buckets per step']
                if sent
                else []
            ),
        ]
    return '\n'.join(lines)


def _prepare(cfg: Config, batch: int | None, engine: str) -> Config:
    """Return a config for a short run on the CPU: no worker processes, and mixed precision that CPUs have."""
    cfg = copy.deepcopy(cfg)
    cfg.launcher, cfg.load_from, cfg.resume = 'pytorch', None, False
    cfg.train_dataloader.update(
        num_workers=0, persistent_workers=False, batch_size=batch or cfg.train_dataloader.batch_size
    )
    if engine == 'fsdp2' and not cfg.get('model_wrapper_cfg'):
        cfg.model_wrapper_cfg = dict(type='mae_toolkit.FSDP2')
    if cfg.get('model_wrapper_cfg'):  # there is room for one hook on the gradients, which counts them here
        cfg.model_wrapper_cfg.pop('gradient_compression', None)
    for name in ('val', 'test'):
        for part in ('dataloader', 'cfg', 'evaluator'):
            cfg[f'{name}_{part}'] = None
    if cfg.optim_wrapper.get('type') == 'AmpOptimWrapper' and not torch.cuda.is_available():
        cfg.optim_wrapper.pop('loss_scale', None)
        cfg.optim_wrapper.update(type='AutocastOptimWrapper', dtype='bfloat16')
    return cfg


def _count_gradients(model: nn.Module) -> list[int]:
    """Let a data-parallel model hand its gradients back unchanged, and return the list to which it adds their bytes.

    Without a hook, DistributedDataParallel waits for a result that the fake process group does not have.
    """
    sent: list[int] = []

    def keep(state: Any, bucket: distributed.GradBucket) -> torch.futures.Future[Tensor]:
        sent.append(bucket.buffer().nbytes)
        done: torch.futures.Future[Tensor] = torch.futures.Future()
        done.set_result(bucket.buffer())
        return done

    if isinstance(model, DistributedDataParallel):
        model.register_comm_hook(None, keep)
    return sent


def _train(runner: Runner, loader: Any) -> list[float]:
    """Train on the first images of this rank, and return the losses."""
    runner.model.train()
    losses = []
    indices = iter(loader.sampler)
    for _ in range(STEPS):
        samples = [loader.dataset[i] for i in islice(indices, IMAGES)]
        outputs = runner.model.train_step(loader.collate_fn(samples), optim_wrapper=runner.optim_wrapper)
        losses.append(float(outputs['loss'].detach()))
    return losses


@contextmanager
def fake_ranks(gpus: int, rank: int) -> Iterator[None]:
    """Let this process be a rank of many, none of which exists, while a ``with`` block runs.

    Raises:
        UserError: If this process has joined a real process group.
    """
    if distributed.is_initialized():
        raise UserError('A dry run needs a process of its own: start it without a launcher.')
    from torch.testing._internal.distributed.fake_pg import FakeStore  # registers its backend when it is imported

    before = dict(os.environ)
    os.environ.update(RANK=str(rank), WORLD_SIZE=str(gpus), LOCAL_RANK='0', MASTER_ADDR='localhost', MASTER_PORT='1')
    distributed.init_process_group('fake', store=FakeStore(), rank=rank, world_size=gpus)
    try:
        yield
    finally:
        distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(before)
