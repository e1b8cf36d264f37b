"""A run that is told to stop ends after its step with a checkpoint, and goes on as if nothing had been."""

import multiprocessing
import os
import signal
import threading
import time

import pytest
import torch
from mmengine.hooks import Hook

from engine_toys import loader, make_runner, val_loader
from mae_toolkit.checkpoints.files import load, newest_checkpoint
from mae_toolkit.engine.hooks import SafeCheckpointHook
from mae_toolkit.engine.lead_time import LeadTime, read_lead_time
from mae_toolkit.engine.preemption import PREEMPTED, SIGNALS, Preempted, StopRequest
from mae_toolkit.engine.requeues import check_progress
from mae_toolkit.errors import UserError
from mae_toolkit.registry import HOOKS
from test_distributed import run_pair

FORK = multiprocessing.get_context('fork')
BY_ITERATIONS = {
    'train_cfg': {'type': 'IterBasedTrainLoop', 'max_iters': 6, 'val_interval': 4},
    'train_dataloader': loader(sampler={'type': 'InfiniteSampler'}),
    'param_scheduler': [],
    'checkpoint': {'interval': 2, 'by_epoch': False},
    'val_dataloader': val_loader(),
    'val_cfg': {'type': 'MAEValLoop'},
}


@HOOKS.register_module(force=True)
class SignalHook(Hook):
    """Sends this process a signal within the given iteration, or to its whole group."""

    def __init__(self, at, number=signal.SIGUSR1, group=False):
        self.at, self.number, self.group = at, number, group

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.at:
            (os.killpg if self.group else os.kill)(0 if self.group else os.getpid(), self.number)


def run(folder, at=None, number=signal.SIGUSR1, resume='auto', **options):
    """Train; return the state of its last checkpoint, or None if it was told to stop."""
    hooks = [] if at is None else [{'type': 'SignalHook', 'at': at, 'number': number}]
    runner = make_runner(folder, hooks=hooks, resume=resume, **options)
    try:
        runner.train()
    except Preempted:
        return None
    return load(newest_checkpoint(folder))['state_dict']


def names(folder):
    return sorted(path.name for path in folder.glob('*.pth'))


def assert_same(state, other):
    assert all(torch.equal(value, other[name]) for name, value in state.items())


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
    return run(tmp_path_factory.mktemp('whole'))


@pytest.mark.parametrize('number', SIGNALS)
def test_it_ends_after_the_step_and_goes_on_from_there(tmp_path, whole, number):
    before = [signal.getsignal(number) for number in SIGNALS]
    assert run(tmp_path, 2, number) is None
    assert names(tmp_path) == ['iter_3.pth'] and read_lead_time(tmp_path) > 10
    assert [signal.getsignal(number) for number in SIGNALS] == before
    assert_same(run(tmp_path), whole)


def test_with_accumulated_gradients_it_ends_after_the_next_step_of_the_optimizer(tmp_path):
    assert run(tmp_path, 2, wrapper={'accumulative_counts': 4}) is None
    assert names(tmp_path) == ['iter_4.pth']


def test_a_signal_before_the_first_step_ends_it_without_a_checkpoint(tmp_path, monkeypatch):
    runner = make_runner(tmp_path)
    build = runner.build_train_loop
    monkeypatch.setattr(runner, 'build_train_loop', lambda loop: (os.kill(os.getpid(), signal.SIGTERM), build(loop))[1])
    with pytest.raises(Preempted, match='SIGTERM came before the first step: .* go on with --resume') as ended:
        runner.train()
    assert ended.value.code == PREEMPTED
    assert names(tmp_path) == []


def test_a_second_signal_during_the_save_changes_nothing(tmp_path, monkeypatch, whole):
    save = SafeCheckpointHook.save_now
    monkeypatch.setattr(
        SafeCheckpointHook, 'save_now', lambda *args: (os.kill(os.getpid(), signal.SIGTERM), save(*args))[1]
    )
    assert run(tmp_path, 2) is None and names(tmp_path) == ['iter_3.pth']
    assert_same(run(tmp_path), whole)


def test_a_save_that_fails_does_not_keep_it_from_ending(tmp_path, monkeypatch, whole):
    with monkeypatch.context() as context:
        context.setattr(os, 'replace', lambda *_: (_ for _ in ()).throw(OSError(28, 'No space left on device')))
        runner = make_runner(tmp_path, hooks=[{'type': 'SignalHook', 'at': 2}])
        with pytest.raises(Preempted, match='the checkpoint of 3 iterations failed .*No space left on device'):
            runner.train()
    assert_same(run(tmp_path), whole)


@pytest.mark.process
def test_a_save_that_is_killed_leaves_the_checkpoint_before(tmp_path, monkeypatch, whole):
    replace = os.replace

    def kill_at_checkpoint(source, target):
        if str(target).endswith('.pth'):
            os.kill(os.getpid(), signal.SIGKILL)
        replace(source, target)

    def train():
        with monkeypatch.context() as context:
            context.setattr(os, 'replace', kill_at_checkpoint)
            run(tmp_path, 2)

    assert run(tmp_path, 0) is None
    process = FORK.Process(target=train)
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and any(tmp_path.glob('*.partial'))
    assert newest_checkpoint(tmp_path).name == 'iter_1.pth'
    assert_same(run(tmp_path), whole)
    assert not any(tmp_path.glob('*.partial'))


@pytest.mark.process
@pytest.mark.parametrize('number', SIGNALS)
def test_data_workers_outlive_a_signal_to_all_processes(tmp_path, number):
    """Slurm signals all processes of a job; the run needs the batches of its workers until it ends."""

    def train():
        os.setpgid(0, 0)
        torch.set_num_threads(1)
        accumulated = {'accumulative_counts': 4}  # so that it needs more batches after the signal
        hooks = [{'type': 'SignalHook', 'at': 4, 'number': number, 'group': True}]
        data = loader(num_workers=1, prefetch_factor=1)
        make_runner(tmp_path, hooks=hooks, wrapper=accumulated, train_dataloader=data).train()

    process = FORK.Process(target=train)
    process.start()
    process.join()
    assert process.exitcode == PREEMPTED and names(tmp_path) == ['epoch_1.pth', 'iter_8.pth']


def sleep_once(begun):
    begun.set()
    time.sleep(600)


@pytest.mark.process
@pytest.mark.parametrize('asked', [False, True])
def test_a_fork_ends_by_a_signal_of_its_own_but_not_by_one_to_all(asked):
    request = StopRequest()
    with request.listening():
        begun = FORK.Event()
        fork = FORK.Process(target=sleep_once, args=(begun,))
        fork.start()
        begun.wait()
        try:
            if asked:
                os.kill(os.getpid(), signal.SIGTERM)
            os.kill(fork.pid, signal.SIGUSR1)
            os.kill(fork.pid, signal.SIGTERM)
            fork.join(3 if asked else 60)
            assert fork.is_alive() == asked
        finally:
            fork.kill()
    assert request.signal == (signal.SIGTERM if asked else None)


def stop_one_of_two(rank, folder):
    """The second of two processes is told to stop in the second iteration; the same iteration of both is saved."""
    torch.set_num_threads(1)
    hooks = [{'type': 'SignalHook', 'at': 1}] if rank else []
    runner = make_runner(folder / 'pair', hooks=hooks, launcher='pytorch', train_dataloader=loader(batch=1))
    try:
        runner.train()
    except Preempted as end:
        return runner.iter, str(end)


@pytest.mark.process
def test_all_processes_end_after_the_same_step(tmp_path):
    (step, said), (other, also) = run_pair(stop_one_of_two, tmp_path)
    assert step == other == 2 and names(tmp_path / 'pair') == ['iter_3.pth']
    assert said.startswith('Another process of the run was told to stop: ') and also.startswith('SIGUSR1 came: ')


def test_in_another_thread_no_handler_is_touched(tmp_path):
    before = [signal.getsignal(number) for number in SIGNALS]
    seen = []

    def train():
        with StopRequest().listening():
            seen.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=train)
    thread.start()
    thread.join()
    assert seen == before


def test_ctrl_c_still_interrupts(tmp_path):
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where tests run in the background
    runner = make_runner(tmp_path, hooks=[{'type': 'SignalHook', 'at': 2, 'number': signal.SIGINT}])
    try:
        with pytest.raises(KeyboardInterrupt):
            runner.train()
    finally:
        signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize('at', [2, 3])
def test_a_validation_that_was_due_is_made_up_for(tmp_path, at):
    """In a loop over iterations it comes after the step that is saved, in that of the run that goes on."""
    assert run(tmp_path, at, **BY_ITERATIONS) is None
    runner = make_runner(tmp_path, resume='auto', **BY_ITERATIONS)
    runner.train()
    assert len(runner.message_hub.get_scalar('val/loss').data[0]) == 2
    assert names(tmp_path) == ['iter_2.pth', 'iter_4.pth', 'iter_6.pth']


def test_without_a_hook_that_can_save_it_ends_with_what_there_is(tmp_path):
    assert run(tmp_path, 8, default_hooks={'checkpoint': {'type': 'CheckpointHook', 'interval': 1}}) is None
    assert names(tmp_path) == ['epoch_1.pth']


def test_it_acts_after_all_that_changes_saves_or_notes_a_step(tmp_path):
    watching = [{'type': name} for name in ('LossSpikeHook', 'EMAHook', 'NaNGuardHook')]
    order = [type(hook).__name__ for hook in make_runner(tmp_path, watching).hooks]
    wanted = 'RankWatchHook NaNGuardHook LossSpikeHook EMAHook ParamSchedulerHook SafeCheckpointHook SpeedHook '
    wanted = [*wanted.split(), 'RunRecordHook', 'PreemptionHook']
    assert [name for name in order if name in wanted] == wanted and order[-1] == 'PreemptionHook'


def test_it_can_be_left_out(tmp_path):
    hooks = {'preemption': None, 'checkpoint': {'type': 'SafeCheckpointHook'}}
    heard = []
    before = signal.signal(signal.SIGUSR1, lambda *_: heard.append(1))
    try:
        assert run(tmp_path, 2, default_hooks=hooks) is not None and heard == [1]
    finally:
        signal.signal(signal.SIGUSR1, before)


def test_the_lead_is_measured_and_written(tmp_path):
    assert read_lead_time(tmp_path) is None
    run(tmp_path)
    assert 10 < read_lead_time(tmp_path) < 600
    (tmp_path / 'preemption.json').write_text('{"lead_seconds": "x"}')
    assert read_lead_time(tmp_path) is None


def test_the_lead_covers_two_steps_and_a_save(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(time, 'monotonic', lambda: now[0])
    lead = LeadTime()
    for seconds in (500, 3, 1, 2):  # the first comes before the first step and is not counted
        now[0] += seconds
        lead.end_step()
    assert lead.compute() is None  # no checkpoint yet
    lead.begin_save()
    now[0] += 5
    assert lead.end_save() and not lead.end_save()
    assert lead.compute() == 25  # 1.5 * (3 + 2 + 5) + 10


def test_a_job_that_is_requeued_in_vain_is_refused(tmp_path):
    first, again = {'SLURM_JOB_ID': '7'}, {'SLURM_JOB_ID': '7', 'SLURM_RESTART_COUNT': '1'}
    check_progress(tmp_path, 0, {})
    for iteration, env in ((0, first), (0, again), (3, again), (3, again), (4, again), (4, again), (4, first)):
        check_progress(tmp_path, iteration, env)
    check_progress(tmp_path, 4, again)
    with pytest.raises(UserError, match='Job 7 has started 2 times after 4 iterations and saved no step since'):
        check_progress(tmp_path, 4, again)
    check_progress(tmp_path, 4, again | {'SLURM_JOB_ID': '8'})
    (tmp_path / 'requeues.json').write_text('[')
    check_progress(tmp_path, 4, again)


def test_a_run_that_is_requeued_in_vain_is_refused(tmp_path, monkeypatch):
    monkeypatch.setenv('SLURM_JOB_ID', '7')
    monkeypatch.setenv('SLURM_RESTART_COUNT', '1')
    monkeypatch.setattr(SafeCheckpointHook, 'save_now', lambda *_: (_ for _ in ()).throw(OSError(28, 'disk full')))
    assert run(tmp_path, 1) is None
    assert run(tmp_path, 1) is None
    with pytest.raises(UserError, match='started 2 times after 0 iterations'):
        run(tmp_path, 1)
