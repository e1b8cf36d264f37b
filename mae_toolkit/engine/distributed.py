"""Several processes: on CPUs with gloo, on GPUs with NCCL, under torchrun, Slurm or MPI."""

import datetime
import gc
import logging
import os
import subprocess
import sys

import torch
from mmengine.model import is_model_wrapper
from torch import distributed

from mae_toolkit.engine.parent import end_with_parent
from mae_toolkit.errors import UserError

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')
FIRST_PORT, PORTS = 20000, 12000  # below the ports that systems hand out on their own (32768 and up)


def init_distributed(launcher='none', backend=None, timeout=1800):
    """Join the processes of a run. Does nothing for one process, or if they have joined already.

    MMEngine's own initialization needs a GPU; called before its Runner, this one takes its place. A process that
    ``torchrun`` started ends soon after ``torchrun``, even if that is killed by SIGKILL.

    Args:
        launcher (str): Who started the processes, one of ``LAUNCHERS``.
        backend (str | None): 'nccl' or 'gloo'; NCCL where there are GPUs if None.
        timeout (int): Seconds that one process waits for another.

    Raises:
        UserError: If the launcher is unknown or did not set the environment that it promises, or if there are fewer
            GPUs than processes on this machine.
    """
    if launcher not in LAUNCHERS:
        raise UserError(f'There is no launcher {launcher!r}; known are {", ".join(LAUNCHERS)}.')
    if launcher == 'none' or distributed.is_initialized():
        return
    os.environ.update(environment(launcher, os.environ))
    if launcher == 'pytorch' and 'TORCHELASTIC_RUN_ID' in os.environ:  # the parent is torchrun, not some shell
        end_with_parent()
    on_gpu = torch.cuda.is_available()
    if on_gpu:
        _choose_gpu(int(os.environ['LOCAL_RANK']))
    backend = backend or ('nccl' if on_gpu else 'gloo')
    distributed.init_process_group(backend, timeout=datetime.timedelta(seconds=timeout))


def environment(launcher, env):
    """What torch.distributed reads (RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT), from what a launcher sets.

    Args:
        launcher (str): 'pytorch', 'slurm' or 'mpi'.
        env (Mapping[str, str]): The environment.

    Raises:
        UserError: If a variable of the launcher is missing.
    """
    if launcher == 'slurm':
        found = _take(launcher, env, RANK='SLURM_PROCID', WORLD_SIZE='SLURM_NTASKS', LOCAL_RANK='SLURM_LOCALID')
        found['MASTER_ADDR'] = env.get('MASTER_ADDR') or _first_host(_take(launcher, env, nodes='SLURM_NODELIST'))
        job = int(_take(launcher, env, job='SLURM_JOB_ID')['job'])
        found['MASTER_PORT'] = env.get('MASTER_PORT') or str(FIRST_PORT + job % PORTS)
        return found
    if launcher == 'mpi':
        names = {key: f'OMPI_COMM_WORLD_{key.removeprefix("WORLD_")}' for key in ('RANK', 'WORLD_SIZE', 'LOCAL_RANK')}
        found = _take(launcher, env, **names, MASTER_ADDR='MASTER_ADDR')
        return found | {'MASTER_PORT': env.get('MASTER_PORT', '29500')}
    names = ('RANK', 'WORLD_SIZE', 'LOCAL_RANK', 'MASTER_ADDR', 'MASTER_PORT')
    return _take(launcher, env, **{name: name for name in names})


def leave_distributed():
    """End this process with status 0 when all have come so far; does nothing for a run of one process.

    An ordinary end takes the connections apart while their threads still run, which now and then aborts a process
    whose work is done.
    """
    if not distributed.is_initialized():
        return
    gc.collect()  # loaders end their workers
    distributed.barrier()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)


def data_parallel_config():
    """MMEngine's ``model_wrapper_cfg`` for data parallelism on this machine's GPU, or on its CPU."""
    device_ids = [torch.cuda.current_device()] if torch.cuda.is_available() else None
    return dict(type='MMDistributedDataParallel', device_ids=device_ids, broadcast_buffers=False)


def unwrap(model):
    """The model inside its data-parallel wrapper, or the model itself."""
    return model.module if is_model_wrapper(model) else model


def _take(launcher, env, **names):
    for name in names.values():
        if name not in env:
            hint = {'pytorch': 'torchrun', 'slurm': 'srun', 'mpi': 'mpirun, with MASTER_ADDR set'}[launcher]
            raise UserError(f'--launcher {launcher} needs the variable {name}, which is not set: start with {hint}.')
    return {key: env[name] for key, name in names.items()}


def _first_host(found):
    """First host of a list such as ``n[1-4]``, which only Slurm's own tool can spell out."""
    try:
        listed = subprocess.run(
            ['scontrol', 'show', 'hostnames', found['nodes']], capture_output=True, text=True, check=True
        )
        return listed.stdout.split()[0]
    except (OSError, subprocess.CalledProcessError, IndexError):
        raise UserError(
            f'scontrol does not tell the first host of {found["nodes"]}: set MASTER_ADDR to the first host.'
        ) from None


def _choose_gpu(local_rank):
    count = torch.cuda.device_count()
    # Slurm may show each process its own GPU alone, as number 0.
    if count > 1 and local_rank >= count:
        raise UserError(f'Process {local_rank + 1} of this machine finds only {count} GPUs: start fewer processes.')
    torch.cuda.set_device(local_rank if count > 1 else 0)
