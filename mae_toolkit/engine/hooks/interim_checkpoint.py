"""Checkpoints between the regular ones: their names, when one can be saved, and which the next one replaces."""

import re

from mmengine.runner import Runner

from mae_toolkit.engine._mmengine import get_accumulative_counts
from mae_toolkit.errors import UserError

PATTERN = re.compile(r'iter_\d+\.pth')
STEP = 'interim_checkpoint'  # the info of the message hub that names the interim checkpoint of a run


def name_interim(step: int) -> str:
    """Return the file name of the interim checkpoint of so many iterations."""
    return f'iter_{step}.pth'


def can_save_now(runner: Runner) -> bool:
    """Return whether the iteration that ends has stepped the optimizer, so that no accumulated gradient is lost."""
    done = runner.iter + 1
    return done % get_accumulative_counts(runner.optim_wrapper) == 0 or done == runner.max_iters


def check_can_save_now(runner: Runner) -> None:
    """Refuse to save while gradients are being accumulated.

    Raises:
        UserError: If the iteration that ends has not stepped the optimizer.
    """
    if not can_save_now(runner):
        counts = get_accumulative_counts(runner.optim_wrapper)
        raise UserError(
            f'A checkpoint of {runner.iter + 1} iterations would lose accumulated gradients, as the optimizer steps '
            f'once every {counts} iterations: save at a multiple of {counts}.'
        )


def find_interim(runner: Runner) -> int | None:
    """Return the iterations of the interim checkpoint that a run or the one before it has left; None without one."""
    step = runner.message_hub.runtime_info.get(STEP)
    return step if type(step) is int and step > 0 else None


def note_interim(runner: Runner, step: int | None) -> None:
    """Note in the message hub, and so in the checkpoints, which interim checkpoint there is."""
    if step is None:
        runner.message_hub.runtime_info.pop(STEP, None)
    else:
        runner.message_hub.update_info(STEP, step)
