"""End a run in order when it is told to stop, so that it goes on as if it had not been."""

import traceback
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from signal import Signals
from typing import Any

from mmengine.dist import broadcast_object_list, is_main_process
from mmengine.hooks import Hook
from mmengine.runner import IterBasedTrainLoop, Runner

from mae_toolkit.engine._mmengine import find_val_interval
from mae_toolkit.engine.hooks.interim_checkpoint import can_save_now
from mae_toolkit.engine.lead_time import LeadTime
from mae_toolkit.engine.preemption import Preempted, StopRequest, StopVote
from mae_toolkit.engine.requeues import check_progress
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import SavesNow
from mae_toolkit.registry import HOOKS

VALIDATION_DUE = 'validation_due'  # info of the message hub: iterations after which a validation has yet to run


@HOOKS.register_module()
class PreemptionHook(Hook):
    """Hook that ends a run when a signal asks for it: after the step, with a checkpoint, in all processes at once.

    The signals are SIGUSR1, which Slurm sends some time before a job's end (``--signal``), and SIGTERM, which it sends
    when a job is preempted, as do clouds and ``torchrun``. They only set a flag. The processes agree on a step,
    all save it, and the run ends with :class:`~mae_toolkit.engine.preemption.Preempted`, whose exit status
    (85) tells whoever started it to start it again with ``--resume``. A checkpoint that cannot be saved does not keep
    the run from ending so: it goes on from the one before. With accumulated gradients the run ends after the next step
    of the optimizer.

    The hook also measures how long before its end a job must be told, see
    :class:`~mae_toolkit.engine.lead_time.LeadTime`, and refuses a Slurm job that is requeued again and again without a
    step in between, see :func:`~mae_toolkit.engine.requeues.check_progress`.

    It acts after all other standard hooks. A hook of your own that has to act after each step, the last one included,
    needs a priority above ``'LOWEST'``, as MMEngine's default is.
    """

    priority = 'LOWEST'  # after the hooks that change what is saved, those that save, and those that note the step

    def __init__(self) -> None:
        self._request = StopRequest()
        self._lead = LeadTime()
        self._vote: StopVote | None = None
        self._must_stop = False

    def listen(self) -> AbstractContextManager[None]:
        """Note the signals for the time of a ``with`` block."""
        return self._request.listening()

    @property
    def signal(self) -> Signals | None:
        """The signal that came first; None as long as there was none."""
        return self._request.signal

    def take_over(self, other: 'PreemptionHook') -> None:
        """Stop before the first step if another hook, of a runner that this one replaces, was told to stop.

        Args:
            other: The hook.
        """
        self._request.signal = other.signal

    def before_train(self, runner: Runner) -> None:
        """Check that a requeued job makes progress, and end at once if the run was told to stop before its first step.

        Raises:
            UserError: If the job was requeued in vain.
            Preempted: If a process of the run was told to stop.
        """
        _check_progress(runner)
        loops = [runner.train_loop, runner.val_loop]
        for loop in loops:
            if loop is not None:
                self._request.protect_workers(loop.dataloader)
        self._vote = StopVote()
        if self._vote.vote(self._request.signal is not None) or self._vote.wait():
            raise Preempted(f'{self._describe()} before the first step: nothing was lost; go on with --resume.')
        if runner.message_hub.runtime_info.pop(VALIDATION_DUE, None) == runner.iter and runner.val_loop is not None:
            runner.val_loop.run()

    def after_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None) -> None:
        """End the run after this step if it was told to stop.

        Raises:
            Preempted: If a process of the run was told to stop.
        """
        self._end_save(runner)
        self._lead.end_step()
        assert self._vote is not None
        self._must_stop = self._must_stop or self._vote.vote(self._request.signal is not None)
        if self._must_stop and can_save_now(runner):
            raise Preempted(f'{self._describe()}: {self._save(runner)}; go on with --resume.')

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Measure how long a checkpoint takes."""
        self._lead.begin_save()

    def after_train_epoch(self, runner: Runner) -> None:
        """Measure how long a checkpoint takes."""
        self._end_save(runner)

    def after_val_epoch(self, runner: Runner, metrics: dict[str, float] | None = None) -> None:
        """Measure how long a checkpoint takes."""
        self._end_save(runner)

    def after_train(self, runner: Runner) -> None:
        """Take the last answer of the other processes."""
        if self._vote is not None:
            self._vote.wait()

    def _end_save(self, runner: Runner) -> None:
        if self._lead.end_save() and is_main_process():
            self._lead.write(runner.work_dir)

    def _describe(self) -> str:
        signal = self._request.signal
        return 'Another process of the run was told to stop' if signal is None else f'{signal.name} came'

    def _save(self, runner: Runner) -> str:
        """Save the iteration that ends, and say what became of that; no failure keeps the run from ending."""
        hook = next((hook for hook in runner.hooks if isinstance(hook, SavesNow)), None)
        if hook is None:
            return 'no hook saves checkpoints between the regular ones, the last of which remains'
        done = runner.iter + 1
        if _is_validation_due(runner, done):
            runner.message_hub.update_info(VALIDATION_DUE, done)
        try:
            path = hook.save_now(runner)
            self._end_save(runner)
            return f'{path} holds the {done} iterations that are done'
        except Exception as error:  # whatever it is: the run must end before it is killed
            runner.logger.error(f'The checkpoint of {done} iterations failed:\n{traceback.format_exc()}')
            return f'the checkpoint of {done} iterations failed ({error}), the one before remains'


@contextmanager
def listen_for_signals(hooks: Iterable[Hook]) -> Iterator[None]:
    """Let the hook for preemption, if it is among the hooks of a run, note signals for the time of a ``with`` block."""
    with ExitStack() as stack:
        for hook in hooks:
            if isinstance(hook, PreemptionHook):
                stack.enter_context(hook.listen())
        yield


def _check_progress(runner: Runner) -> None:
    """Refuse a job that was requeued in vain, in all processes.

    Raises:
        UserError: If it was.
    """
    refusal: list[str | None] = [None]
    if is_main_process():
        try:
            check_progress(runner.work_dir, runner.iter)
        except UserError as error:
            refusal = [str(error)]
    broadcast_object_list(refusal)
    if refusal[0] is not None:
        raise UserError(refusal[0])


def _is_validation_due(runner: Runner, done: int) -> bool:
    """Return whether a loop over iterations validates after this one; a loop over epochs catches up on its own."""
    loop: Any = runner.train_loop
    if not isinstance(loop, IterBasedTrainLoop) or runner.val_loop is None or done < loop.val_begin:
        return False
    return done % find_val_interval(loop, done) == 0 or done == loop.max_iters
