"""End a run of several processes when one of them is lost or hangs."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from time import strftime
from typing import Any

from mmengine.dist import broadcast_object_list, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import distributed

from mae_toolkit.engine.distributed import count_restarts
from mae_toolkit.engine.preemption import Preempted
from mae_toolkit.engine.rank_watch import RankWatch
from mae_toolkit.engine.skips import LossSpike
from mae_toolkit.engine.time_limits import HANGS, TimeLimits, set_timeouts
from mae_toolkit.registry import HOOKS


@HOOKS.register_module()
class RankWatchHook(Hook):
    """Hook that watches over the ranks of a run, see :class:`~mae_toolkit.engine.rank_watch.RankWatch`.

    It is among the standard hooks, and does nothing in a single process. ``env_cfg.dist_cfg`` sets its limits, see
    :class:`~mae_toolkit.engine.time_limits.TimeLimits`. Reports are in ``hangs/TIME`` of the work directory.
    """

    priority = 'VERY_HIGH'  # a step ends before other hooks begin their work

    def __init__(self) -> None:
        self._watch: RankWatch | None = None

    def before_train(self, runner: Runner) -> None:
        """Begin to watch."""
        if get_world_size() == 1:
            return
        if 'MASTER_ADDR' not in os.environ:  # a program of its own has made the group, or it is a dry run
            runner.logger.info('RankWatchHook: MASTER_ADDR does not name the store of the run; no rank is watched.')
            return
        started = [strftime('%Y%m%d_%H%M%S')]
        broadcast_object_list(started)
        limits = TimeLimits.from_config(runner.cfg.get('env_cfg'))
        folder = Path(runner.work_dir) / HANGS / started[0]
        self._watch = RankWatch(connect_store(limits), get_rank(), get_world_size(), limits, folder)
        self._watch.start(runner.iter)

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Note that a step begins."""
        if self._watch is not None:
            self._watch.enter_step(runner.iter)

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """Note that the step has ended."""
        if self._watch is not None:
            self._watch.leave_step()

    def after_train(self, runner: Runner) -> None:
        """End the watch; what the first rank does now, no other waits for."""
        if self._watch is not None:
            self._watch.stop()

    def end_with(self, error: BaseException | None) -> None:
        """End the watch, however the training has ended.

        Args:
            error: What has ended it, if it has failed.
        """
        if self._watch is not None and error is not None:
            self._watch.fail(error)
        elif self._watch is not None:
            self._watch.stop()


@contextmanager
def tell_other_ranks(runner: Runner) -> Iterator[None]:
    """Let the other ranks know if a ``with`` block of work fails, so that they end, too.

    Within it, ranks wait for one another up to ``work_timeout``.

    Args:
        runner: The runner; one without a :class:`RankWatchHook` tells nothing.
    """
    set_timeouts(TimeLimits.from_config(runner.cfg.get('env_cfg')).work)
    error: BaseException | None = None
    try:
        yield
    except (Preempted, LossSpike):  # all ranks end so, though the first one may still be saving
        raise
    except (Exception, KeyboardInterrupt) as failure:
        error = failure
        raise
    finally:
        for hook in runner.hooks:
            if isinstance(hook, RankWatchHook):
                hook.end_with(error)


def connect_store(limits: TimeLimits) -> distributed.Store:
    """Connect to the store by which the processes of a run have met, as a client of its own.

    Keys are those of this attempt: torchrun keeps one store over its restarts.
    """
    env = os.environ
    store = distributed.TCPStore(
        env['MASTER_ADDR'],
        int(env['MASTER_PORT']),
        is_master=False,
        wait_for_workers=False,
        timeout=timedelta(seconds=limits.silence),
    )
    return distributed.PrefixStore(f'mae_toolkit/rank_watch/{count_restarts(env)}', store)
