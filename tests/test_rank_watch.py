"""A rank that dies or hangs ends the run with a report; long work of one rank does not."""

import os
import signal
import socket
import threading
import time
from datetime import timedelta

import pytest
import torch
from mmengine.hooks import Hook

from engine_toys import make_runner
from mae_toolkit.engine import rank_watch
from mae_toolkit.engine.distributed import count_restarts, init_distributed
from mae_toolkit.engine.preemption import RANK_LOST
from mae_toolkit.engine.rank_progress import END, Progress
from mae_toolkit.engine.rank_watch import RankWatch
from mae_toolkit.engine.time_limits import TimeLimits, set_nccl_environment, set_timeouts
from mae_toolkit.registry import HOOKS
from test_distributed import FORK_SECONDS, run_pair, start_pair

LIMITS = TimeLimits(start=50, step=10, work=100, silence=30)


def progress_after(*moments, first=0):
    """What is known after moments of (seconds, position of each rank); each is a sign of life of its own."""
    progress = Progress(LIMITS, first)
    for count, (now, positions) in enumerate(moments):
        beats = {rank: END if p is None else f'{count} {p}' for rank, p in enumerate(positions)}
        progress.update(beats, now)
    return progress


def test_a_step_hangs_only_once_all_ranks_are_in_it():
    assert progress_after((0, (5, 4)), (99, (5, 4))).find_hanging() is None  # the other one validates
    assert progress_after((0, (5, 4)), (99, (5, 5)), (108, (5, 5))).find_hanging() is None
    rank, fate = progress_after((0, (5, 4)), (99, (6, 5)), (110, (6, 5))).find_hanging()
    assert rank == 1 and 'in step 3 for 11 s; env_cfg.dist_cfg.timeout allows 10 s' in fate


def test_limits_between_steps_and_of_the_first():
    rank, fate = progress_after((0, (5, 4)), (101, (5, 4))).find_hanging()
    assert rank == 1 and 'between the steps 2 and 3 for 101 s; env_cfg.dist_cfg.work_timeout allows 100 s' in fate
    assert progress_after((0, (5, 5)), (49, (5, 5)), first=2).find_hanging() is None
    rank, fate = progress_after((0, (5, 5)), (51, (5, 5)), first=2).find_hanging()
    assert rank == 0 and 'first step, 3, for 51 s (and 1 more); env_cfg.dist_cfg.start_timeout' in fate


def test_long_steps_raise_the_limit():
    moments = (0, (3, 3)), (9, (4, 4)), (9, (5, 5))
    assert progress_after(*moments, (27, (5, 5))).find_hanging() is None
    assert 'allows 19 s' in progress_after(*moments, (29, (5, 5))).find_hanging()[1]


def test_a_rank_that_has_ended_is_neither_silent_nor_slow():
    assert progress_after((0, (5, None)), (9, (9, None)), (18, (9, None))).find_hanging() is None
    progress = progress_after((0, (5, 5)))
    progress.update({0: '1 5', 1: '0 5'}, 31)
    assert progress.find_silent() == (1, 'has given no sign of life for 31 s, and the limit is 30 s')
    progress.update({0: '2 5', 1: END}, 31)
    assert progress.find_silent() is None


@pytest.fixture
def make_watches(tmp_path):
    """Two ranks in this process, and an event for the end of each."""
    stores = [torch.distributed.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)]

    def make(limits):
        ended = [threading.Event(), threading.Event()]
        watches = []
        for rank in range(2):
            patience = timedelta(seconds=60)
            client = torch.distributed.TCPStore('127.0.0.1', stores[0].port, is_master=False, timeout=patience)
            end = lambda status, event=ended[rank]: event.set()  # noqa: E731
            watches.append(RankWatch(client, rank, 2, limits, tmp_path / 'hangs', tick=0.05, end=end))
        return watches, ended

    yield make
    stores.clear()


@pytest.mark.process  # py-spy, where it is installed
def test_all_ranks_of_a_hang_write_their_stacks(tmp_path, capfd, make_watches):
    watches, ended = make_watches(TimeLimits(step=0.3, silence=600))
    for watch in watches:
        watch.start(0)
    for watch in watches:
        watch.enter_step(0)
        watch.leave_step()
        watch.enter_step(1)
    assert all(event.wait(120) for event in ended)
    told = capfd.readouterr().err
    assert told.count('error: Rank 0 on ') == 2 and 'has been in step 2 for' in told
    assert 'Rank 1 ends, too.' in told and 'rank 1 on' in told and 'The stacks of all ranks are in' in told
    for rank in range(2):
        assert 'test_all_ranks_of_a_hang' in (tmp_path / 'hangs' / f'rank_{rank}.txt').read_text()
    assert 'in step 2' in (tmp_path / 'hangs' / 'report.txt').read_text()


def test_a_rank_that_fails_tells_the_other(tmp_path, capfd, make_watches):
    (first, second), ended = make_watches(TimeLimits())
    first.start(0)
    second.start(0)
    second.fail(ValueError('odd'))
    first.fail(RuntimeError('[gloo] Connection closed by peer'))
    assert ended[0].wait(120) and not ended[1].is_set()
    assert 'failed: ValueError: odd. Rank 0 ends, too.' in capfd.readouterr().err
    assert not (tmp_path / 'hangs').exists()


class GoneStore:
    """A store whose process has ended."""

    def __getattr__(self, name):
        raise RuntimeError('Broken pipe')


def test_the_first_rank_ends_only_once_the_others_know_why(make_watches, monkeypatch):
    """Its process holds the store; without a word from it, the others would end as if it had been killed."""
    monkeypatch.setattr(rank_watch, 'GRACE', 0.2)
    (first, second), _ = make_watches(TimeLimits())
    statuses, over = [], threading.Event()
    first.tick = second.tick = 0.5
    second.end = lambda status: (statuses.append(status), over.set())
    first.start(0)
    second.start(0)
    first.fail(ValueError('odd'))
    second.store = GoneStore()
    assert over.wait(120) and statuses == [1]


@HOOKS.register_module(force=True)
class TroubleHook(Hook):
    """Lets the second process die, or the first one work long between two steps."""

    priority = 'LOWEST'

    def __init__(self, kind):
        self.kind = kind

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == 1 and runner.rank == 1 and self.kind == 'die':
            os.kill(os.getpid(), signal.SIGKILL)

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        if runner.iter == 1 and runner.rank == 0 and self.kind == 'work':
            time.sleep(7)


def run_with_trouble(kind, folder):
    os.dup2(os.open(folder / f'{os.environ["RANK"]}.err', os.O_WRONLY | os.O_CREAT), 2)
    settings = {'dist_cfg': {'timeout': 5.0}}
    hooks = [{'type': 'TroubleHook', 'kind': kind}]
    make_runner(
        folder / 'run', hooks, epochs=1, launcher='pytorch', env_cfg=settings, cfg={'env_cfg': settings}
    ).train()
    return {'ended': True}


def die(rank, folder):
    return run_with_trouble('die', folder)


def work(rank, folder):
    return run_with_trouble('work', folder)


@pytest.mark.process
def test_a_killed_rank_ends_the_other_with_a_sentence(tmp_path):
    processes = start_pair(die, tmp_path)
    processes[0].join(FORK_SECONDS)
    assert [process.exitcode for process in processes] == [RANK_LOST, -signal.SIGKILL]
    told = (tmp_path / '0.err').read_text()
    assert f'error: Rank 1 on {socket.gethostname()} is gone: its process {processes[1].pid} was killed' in told
    assert list(tmp_path.glob('run/hangs/*/rank_0.txt'))


@pytest.mark.process
def test_long_work_of_one_rank_between_steps_is_no_hang(tmp_path):
    processes = start_pair(work, tmp_path)
    for process in processes:
        process.join(FORK_SECONDS)
    assert [process.exitcode for process in processes] == [0, 0]
    assert not (tmp_path / 'run' / 'hangs').exists()


def time_out(rank, folder):
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    init_distributed('pytorch')
    group = torch.distributed.new_group([0, 1])  # such as another library makes
    set_timeouts(1)
    if rank:
        torch.distributed.barrier()  # of all, to which the first one never comes
    with pytest.raises(RuntimeError, match='[Tt]imed out'):
        torch.distributed.barrier(group)
    os._exit(0)


@pytest.mark.process
def test_the_limit_holds_in_all_groups(tmp_path):
    processes = start_pair(time_out, tmp_path)
    processes[0].join(FORK_SECONDS)
    assert processes[0].exitcode == 0
    processes[1].kill()


def test_limits_of_a_config():
    assert TimeLimits.from_config(None) == TimeLimits.from_config({}) == TimeLimits(300, 100, 1800, 45)
    settings = {'dist_cfg': {'backend': 'nccl', 'timeout': 7, 'start_timeout': 8, 'work_timeout': 9}}
    assert TimeLimits.from_config(settings) == TimeLimits(8, 7, 9, 45)


def test_what_the_user_has_set_for_nccl_stays(tmp_path, monkeypatch):
    for name in list(os.environ):
        if name.startswith(('TORCH_NCCL_', 'TORCH_FR_')):
            monkeypatch.delenv(name)
    monkeypatch.setattr(os, 'environ', {'TORCH_NCCL_DUMP_ON_TIMEOUT': '0', 'TORCH_FR_BUFFER_SIZE': '9'})
    set_nccl_environment(tmp_path)
    assert os.environ.pop('TORCH_NCCL_DEBUG_INFO_TEMP_FILE') == f'{tmp_path}/hangs/nccl_rank_'
    assert (tmp_path / 'hangs').is_dir()  # NCCL may make none, and then writes nothing
    assert os.environ == {
        'TORCH_NCCL_DUMP_ON_TIMEOUT': '0', 'TORCH_FR_BUFFER_SIZE': '9', 'TORCH_NCCL_ASYNC_ERROR_HANDLING': '3',
    }  # fmt: skip


def test_restarts_of_torchrun_are_counted():
    assert count_restarts({'TORCHELASTIC_RESTART_COUNT': '2'}) == 2
    assert count_restarts({'TORCHELASTIC_RESTART_COUNT': ''}) == count_restarts({}) == 0


def join_late(rank, folder):
    time.sleep(rank)
    init_distributed('pytorch', {'dist_cfg': {'start_timeout': 60.0}})
    torch.distributed.barrier()
    return {'joined': True}


@pytest.mark.process
def test_a_restart_does_not_meet_the_processes_before_it(tmp_path, monkeypatch):
    """Torchrun's store, which outlives them, still has their addresses."""
    store = torch.distributed.TCPStore('127.0.0.1', 0, is_master=True, wait_for_workers=False)
    monkeypatch.setenv('TORCHELASTIC_USE_AGENT_STORE', 'True')
    monkeypatch.setenv('MASTER_ADDR', '127.0.0.1')
    monkeypatch.setenv('MASTER_PORT', str(store.port))
    for attempt in range(2):
        monkeypatch.setenv('TORCHELASTIC_RESTART_COUNT', str(attempt))
        assert run_pair(join_late, tmp_path, port=store.port) == [{'joined': True}] * 2
