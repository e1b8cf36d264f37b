"""Run in several processes: on CPUs with gloo, on GPUs with NCCL, under torchrun, Slurm or MPI."""

import datetime
import gc
import logging
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.model import is_model_wrapper
from torch import distributed, nn
from torch.distributed.rendezvous import rendezvous

from mae_toolkit.engine.parent import end_with_parent
from mae_toolkit.engine.time_limits import TimeLimits, set_nccl_environment
from mae_toolkit.errors import UserError

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
FIRST_PORT, PORTS = 20000, 12000  # below the ports that systems hand out on their own (32768 and up)


def init_distributed(
    launcher: str = 'none', env_cfg: Mapping[str, Any] | None = None, work_dir: str | Path | None = None
) -> None:
    """Join the processes of a run; do nothing for a single process, or if they have joined already.

    MMEngine's own initialization needs a GPU; called before its runner is built, this one takes its place. A process
    that ``torchrun`` started ends soon after ``torchrun`` has ended, even if that was killed by SIGKILL.

    Args:
        launcher: What started the processes, one of :data:`LAUNCHERS`.
        env_cfg: That of the config. Of its ``dist_cfg``, ``backend`` chooses for GPUs instead of NCCL, and
            ``start_timeout`` are the seconds that one process waits for another until the training begins.
        work_dir: The run's folder, where NCCL's flight recorder goes.

    Raises:
        UserError: If the launcher is unknown or has not set its environment variables, or if there are fewer GPUs than
            processes on this machine.
    """
    if launcher not in LAUNCHERS:
        raise UserError(f'There is no launcher {launcher!r}; known are {", ".join(LAUNCHERS)}.')
    if launcher == 'none' or distributed.is_initialized():
        return
    os.environ.update(read_launcher_environment(launcher, os.environ))
    if launcher == 'pytorch' and 'TORCHELASTIC_RUN_ID' in os.environ:  # the parent is torchrun, not some shell
        end_with_parent()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        _choose_gpu(int(os.environ['LOCAL_RANK']))
        set_nccl_environment(work_dir)
    backend = ((env_cfg or {}).get('dist_cfg') or {}).get('backend', 'nccl') if on_gpu else 'gloo'
    start_timeout = TimeLimits.from_config(env_cfg).start
    timeout = datetime.timedelta(seconds=start_timeout)
    store, rank, world_size = next(rendezvous('env://', timeout=timeout))
    # torchrun may keep one store over its restarts, in which processes would find the addresses of those before them.
    store = distributed.PrefixStore(f'mae_toolkit/attempt_{count_restarts(os.environ)}', store)
    distributed.init_process_group(backend, timeout=timeout, store=store, rank=rank, world_size=world_size)


def read_launcher_environment(launcher: str, env: Mapping[str, str]) -> dict[str, str]:
    """Convert the environment variables of a launcher to those that ``torch.distributed`` reads.

    Args:
        launcher: ``'pytorch'``, ``'slurm'`` or ``'mpi'``.
        env: The environment.

    Returns:
        ``RANK``, ``WORLD_SIZE``, ``LOCAL_RANK``, ``MASTER_ADDR`` and ``MASTER_PORT``.

    Raises:
        UserError: If a variable of the launcher is missing.
    """
    if launcher == 'slurm':
        found = _read(launcher, env, RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID')
        found['MASTER_ADDR'] = env.get('MASTER_ADDR') or _find_first_host(
            _read(launcher, env, nodes='SLURM_NODELIST')['nodes']
        )
        job = int(_read(launcher, env, job='SLURM_JOB_ID')['job'])
        found['MASTER_PORT'] = env.get('MASTER_PORT') or str(FIRST_PORT + job % PORTS)
        return found
    if launcher == 'mpi':
        names = {key: f'OMPI_COMM_WORLD_{key.removeprefix("WORLD_")}' for key in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')}
        found = _read(launcher, env, **names, MASTER_ADDR='MASTER_ADDR')
        return found | {'MASTER_PORT': env.get('MASTER_PORT', '29500')}
    read_by_torch = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    return _read(launcher, env, **{name: name for name in read_by_torch})


def count_restarts(env: Mapping[str, str]) -> int:
    """Return how often torchrun has started all processes anew because one had failed.

    Args:
        env: The environment.
    """
    return int(env.get('TORCHELASTIC_RESTART_COUNT') or 0)


def leave_distributed(status: int = 0) -> None:
    """End this process once all processes have come here; do nothing for a single process.

    An ordinary exit closes connections while their threads still run, which occasionally aborts a process whose work is
    done.

    Args:
        status: Exit status of the process.
    """
    if not distributed.is_initialized():
        return
    gc.collect()  # so that data loaders end their workers
    distributed.barrier()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def unwrap(model: nn.Module) -> Any:
    """Return the model inside its data-parallel wrapper; without a wrapper, the model itself."""
    return model.module if is_model_wrapper(model) else model


def _read(launcher: str, env: Mapping[str, str], **names: str) -> dict[str, str]:
    """Read variables of a launcher: ``RANK='SLURM_PROCID'`` returns the value of that variable as ``RANK``."""
    for name in names.values():
        if name not in env:
            hint = {'pytorch': 'torchrun', 'slurm': 'srun', 'mpi': 'mpirun, with MASTER_ADDR set'}[launcher]
            raise UserError(f'--launcher {launcher} needs the variable {name}, which is not set: start with {hint}.')
    return {key: env[name] for key, name in names.items()}


def _find_first_host(nodes: str) -> str:
    """Return the first host of a list such as ``n[1-4]``, which only Slurm's own tool can expand."""
    try:
        listed = subprocess.run(['scontrol', 'show', 'hostnames', nodes], capture_output=True, text=True, check=True)
        return listed.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        raise UserError(
            f'scontrol does not tell the first host of {nodes}: set MASTER_ADDR to the first host.'
        ) from None


def _choose_gpu(local_rank: int) -> None:
    count = torch.cuda.device_count()
    # Slurm may show each process only its own GPU, as number 0.
    if count > 1 and local_rank >= count:
        raise UserError(f'Process {local_rank + 1} of this machine finds only {count} GPUs: start fewer processes.')
    torch.cuda.set_device(local_rank if count > 1 else 0)
