"""Check before a job is queued what its training would refuse once it has started."""

import copy
from pathlib import Path

from mmengine.config import Config

from mae_toolkit.apis.run_start import check_unused, share_batch
from mae_toolkit.apis.training import choose_work_dir, scale_lr, use_mixed_precision
from mae_toolkit.checkpoints.files import newest_checkpoint, read_meta
from mae_toolkit.config.difference import refuse_changes
from mae_toolkit.printing import format_count


def check_submission(
    cfg: Config,
    processes: int,
    work_dir: str | Path | None = None,
    resume: str | None = None,
    amp: bool = False,
    auto_scale_lr: bool = False,
    total_batch_size: int | None = None,
    allow_changed_config: bool = False,
) -> str:
    """Check whether a number of processes can share the batch, and whether the work directory holds this very run.

    The data is checked by ``tools/check_data.py``, shapes and memory by ``tools/plan.py --dry-run``.

    Args:
        cfg: The config; it is not changed.
        processes: Number of processes that the job will have.
        work_dir: See :func:`~mae_toolkit.apis.training.train`, as for the rest.
        resume: As for the training.
        amp: As for the training.
        auto_scale_lr: As for the training.
        total_batch_size: As for the training.
        allow_changed_config: As for the training.

    Returns:
        What the job will do.

    Raises:
        UserError: If the training would be refused.
    """
    cfg = copy.deepcopy(cfg)
    folder = choose_work_dir(cfg, work_dir)
    share_batch(cfg, total_batch_size, processes)
    if amp:
        use_mixed_precision(cfg, on_gpu=True)  # a job's GPUs are seldom those of the machine that submits it
    scale_lr(cfg, auto_scale_lr, processes)
    check_unused(folder, resume)
    shared = f'{format_count(processes, "process", "processes")} of {cfg.train_dataloader.batch_size} images per step'
    found = newest_checkpoint(folder) if resume == 'auto' else None if resume is None else Path(resume)
    if found is None:
        return f'{shared}, from the beginning'
    if not allow_changed_config:
        refuse_changes(found, {'meta': read_meta(found)}, cfg)
    return f'{shared}, from {found}'
