"""What is checked and set before a training from a config begins: its folder, and its share of the batch."""

import os
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from mmengine.config import Config
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process

from mae_toolkit.checkpoints.files import list_checkpoints
from mae_toolkit.engine.locks import PATIENCE, reserve_work_dir
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count

# Variables by which Slurm and torchrun count how often they have started a process anew.
RESTARTS = ('SLURM_RESTART_COUNT', 'TORCHELASTIC_RESTART_COUNT')
LONG_PATIENCE = 60.0  # seconds in which the process that was killed before has ended, and its host has noticed


def find_patience(env: Mapping[str, str] = os.environ) -> float:
    """Return how many seconds to wait for the work directory: longer if this process takes the place of another one."""
    restarted = any(env.get(name, '0') not in ('', '0') for name in RESTARTS)
    return LONG_PATIENCE if restarted else PATIENCE


def share_batch(cfg: Config, total: int | None = None, processes: int | None = None) -> None:
    """Set the batch size of each process so that all of them together have the total batch, in place.

    Args:
        cfg: The config, which may have a ``total_batch_size`` of its own; without one nothing happens.
        total: Images of an iteration over all processes; that of the config if None.
        processes: Number of processes; that of this run if None.

    Raises:
        UserError: If the processes cannot share the batch evenly.
    """
    total = cfg.get('total_batch_size') if total is None else total
    if total is None:
        return
    processes = get_world_size() if processes is None else processes
    if type(total) is not int or total < 1:
        raise UserError(f'The total batch size {total!r} must be a whole number of 1 or more.')
    if total % processes:
        raise UserError(
            f'A total batch of {total} images cannot be shared evenly by {processes} processes: choose a multiple of '
            f'{processes}, or a number of processes that divides {total}.'
        )
    cfg.total_batch_size = total
    cfg.train_dataloader.batch_size = total // processes


@contextmanager
def enter_work_dir(work_dir: str, resume: str | None) -> Iterator[None]:
    """Keep other trainings out of a work directory for the time of a ``with`` block.

    The first process looks, and if it refuses, all processes do: the others would only tell that it is gone.

    Args:
        work_dir: The folder.
        resume: See :func:`check_unused`.

    Raises:
        UserError: If another process trains there, or if it holds another run.
        OSError: If the folder cannot be made or written to.
    """
    refusal: list[Exception | None] = [None]
    with ExitStack() as stack:
        if is_main_process():
            try:
                stack.enter_context(reserve_work_dir(work_dir, find_patience()))
                check_unused(work_dir, resume)
            except (UserError, OSError) as error:
                refusal = [error]
        broadcast_object_list(refusal)
        if refusal[0] is not None:
            raise refusal[0]
        yield


def check_unused(work_dir: str, resume: str | None) -> None:
    """Refuse a folder with checkpoints of another run: neither run could be resumed from the mixture.

    Args:
        work_dir: The folder.
        resume: ``'auto'``, the path of a checkpoint, or None, as for :func:`~mae_toolkit.apis.training.train`.

    Raises:
        UserError: If it holds some.
    """
    old = [path.name for path in list_checkpoints(work_dir)]
    if not old or resume == 'auto':
        return
    held = format_count(len(old), 'checkpoint')
    if resume is None:
        raise UserError(
            f'{work_dir} holds {held} of an earlier run ({old[-1]}): go on with --resume, or choose another --work-dir.'
        )
    if Path(resume).resolve().parent != Path(work_dir).resolve():
        raise UserError(
            f'{work_dir} holds {held} ({old[-1]}), and --resume names {resume}, of another folder: go on with --resume '
            'alone, or choose another --work-dir.'
        )
