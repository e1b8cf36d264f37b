"""How long one process of a run waits for another, and what torch's own watchdogs are told."""

import datetime
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import distributed
from torch.distributed import distributed_c10d

HANGS = 'hangs'  # folder of a run's work directory for stacks and flight recorders
RECORDED_CALLS = 20000  # collectives that NCCL's flight recorder remembers


@dataclass(frozen=True)
class TimeLimits:
    """Seconds after which a run in several processes is held to hang; ``env_cfg.dist_cfg`` of a config sets them.

    Args:
        start: For joining, for each collective while the model is built, and for the first step, which compiles.
        step: For each later step, from the moment when all ranks have entered it, beyond the longest step so far.
        work: For what happens between two steps, such as a validation, a checkpoint, or pictures of one rank, while the
            others wait.
        silence: Without a sign of life of a rank; until its first step has ended, ``start`` seconds if they are more.
    """

    start: float = 300.0
    step: float = 100.0
    work: float = 1800.0
    silence: float = 45.0

    @classmethod
    def from_config(cls, env_cfg: Mapping[str, Any] | None) -> 'TimeLimits':
        """Read ``start_timeout``, ``timeout``, ``work_timeout`` and ``silence_timeout`` of ``env_cfg.dist_cfg``."""
        settings = (env_cfg or {}).get('dist_cfg') or {}
        names = dict(start='start_timeout', step='timeout', work='work_timeout', silence='silence_timeout')
        return cls(**{field: float(settings[name]) for field, name in names.items() if name in settings})


def set_timeouts(seconds: float) -> None:
    """Set the time limit of later collectives in all groups of this process, those of other libraries, too.

    Args:
        seconds: The limit of NCCL and gloo.
    """
    # older versions of torch have it under the other name
    set_one = getattr(distributed, 'set_timeout', None) or getattr(distributed_c10d, '_set_pg_timeout')  # noqa: B009
    for group in list(distributed_c10d._world.pg_map):
        set_one(datetime.timedelta(seconds=seconds), group)


def set_nccl_environment(work_dir: str | Path | None) -> None:
    """Let NCCL end a process whose collective fails, and keep what its flight recorder holds; before it is initialized.

    Variables that the user has set stay.

    Args:
        work_dir: The run's folder, where ``hangs/nccl_rank_K`` are written; torch's own place if None.
    """
    settings = {
        'TORCH_NCCL_ASYNC_ERROR_HANDLING': '3',  # end the process, without a cleanup that may hang itself
        'TORCH_NCCL_DUMP_ON_TIMEOUT': '1',
        # Older names, which later versions of torch read, too.
        'TORCH_NCCL_TRACE_BUFFER_SIZE': str(RECORDED_CALLS),
    }
    if work_dir is not None:
        folder = Path(work_dir).absolute() / HANGS
        with suppress(OSError):  # which whoever writes there first reports
            folder.mkdir(parents=True, exist_ok=True)  # NCCL writes nothing where there is no folder
        settings['TORCH_NCCL_DEBUG_INFO_TEMP_FILE'] = str(folder / 'nccl_rank_')
    later_names = {
        'TORCH_NCCL_TRACE_BUFFER_SIZE': 'TORCH_FR_BUFFER_SIZE',
        'TORCH_NCCL_DEBUG_INFO_TEMP_FILE': 'TORCH_FR_DUMP_TEMP_FILE',
    }
    for name, value in settings.items():
        if later_names.get(name) not in os.environ:
            os.environ.setdefault(name, value)
