"""One process trains in a folder, and processes end with those that started them, however these end."""

import errno
import json
import multiprocessing
import os
import signal
import textwrap
import threading
import time

import pytest
import torch

from launching import ROOT
from mae_toolkit.apis.run_start import find_patience
from mae_toolkit.apis.training import choose_work_dir, train
from mae_toolkit.engine import locks
from mae_toolkit.engine.locks import find_holder, lock_folder, reserve_work_dir
from mae_toolkit.engine.parent import end_with_parent
from mae_toolkit.errors import UserError
from test_classification_run import config, folder  # noqa: F401
from warm import start_python

FORK = multiprocessing.get_context('fork')
PATIENCE = 300  # seconds, far above what a slow machine takes, and less than the processes here would go on


def is_alive(pid):
    """Whether a process runs; one that has ended and that nobody waited for does not."""
    try:
        with open(f'/proc/{pid}/stat') as file:
            return file.read().rsplit(') ', 1)[1][0] not in 'ZX'
    except FileNotFoundError:
        return False


def wait_until(condition):
    """Wait for what must come, without a limit that a slow machine could miss; return whether it came."""
    end = time.monotonic() + PATIENCE
    while not condition() and time.monotonic() < end:
        time.sleep(0.05)
    return condition()


def sleep_for_ever():
    time.sleep(600)


def hold_with_a_worker(place, tell):
    """Hold a folder's lock while a fork of this process lives, as the worker of a data loader does."""
    with lock_folder(place) as free:
        worker = FORK.Process(target=sleep_for_ever)
        worker.start()
        tell.send((free, worker.pid))
        time.sleep(600)


@pytest.fixture
def holder(tmp_path):
    """A process that holds the lock of ``tmp_path/run``, and the number of its worker."""
    heard, tell = FORK.Pipe(duplex=False)
    process = FORK.Process(target=hold_with_a_worker, args=(tmp_path / 'run', tell))
    process.start()
    free, worker = heard.recv()
    assert free
    yield process, worker
    process.kill()
    process.join()
    if is_alive(worker):
        os.kill(worker, signal.SIGKILL)


@pytest.mark.process
@pytest.mark.parametrize('resume', [None, 'auto', 'some.pth'])
def test_a_second_training_in_a_folder_is_refused(tmp_path, folder, holder, resume):  # noqa: F811
    before = sorted(path.name for path in (tmp_path / 'run').iterdir())
    with pytest.raises(UserError, match=rf'run is in use: process {holder[0].pid} on .* is training there; wait'):
        train(config(folder), tmp_path / 'run', resume=resume)
    assert sorted(path.name for path in (tmp_path / 'run').iterdir()) == before == ['.lock']


@pytest.mark.process
def test_a_job_that_is_started_again_waits_for_the_one_before(tmp_path, holder):
    assert find_patience({}) == find_patience({'SLURM_RESTART_COUNT': '0'}) == locks.PATIENCE
    assert find_patience({'SLURM_RESTART_COUNT': '2'}) == find_patience({'TORCHELASTIC_RESTART_COUNT': '1'}) >= 60
    threading.Timer(locks.PATIENCE + 0.5, holder[0].kill).start()
    with reserve_work_dir(tmp_path / 'run', PATIENCE):
        assert f'process {os.getpid()} on ' in find_holder(tmp_path / 'run')


@pytest.mark.process
def test_an_orphaned_worker_keeps_no_lock(tmp_path, holder):
    process, worker = holder
    assert f'process {process.pid} on ' in find_holder(tmp_path / 'run')
    process.kill()
    process.join()
    assert find_holder(tmp_path / 'run') is None
    with reserve_work_dir(tmp_path / 'run'):
        assert is_alive(worker)
        assert f'process {os.getpid()} on ' in find_holder(tmp_path / 'run')


def test_a_folder_is_free_after_a_training_and_after_one_that_failed(folder):  # noqa: F811
    cfg = config(folder, epochs=1)
    cfg.model.num_classes = 5
    with pytest.raises(UserError, match='num_classes=5'):
        train(cfg, folder / 'run')
    train(config(folder, epochs=1), folder / 'run')
    assert find_holder(folder / 'run') is None


def test_a_checkpoint_of_another_folder_is_not_resumed_among_those_of_a_run(tmp_path, folder):  # noqa: F811
    for name in ('a', 'b'):
        (tmp_path / name).mkdir()
        (tmp_path / name / 'epoch_1.pth').touch()
    with pytest.raises(UserError, match=r'a holds 1 checkpoint .*, and --resume names .*b/epoch_1.pth, of another'):
        train(config(folder), tmp_path / 'a', resume=str(tmp_path / 'b/epoch_1.pth'))
    with pytest.raises(UserError, match='is no checkpoint: it is empty'):
        train(config(folder), tmp_path / 'a', resume=f'{tmp_path}/b/../a/epoch_1.pth')


@pytest.mark.process
@pytest.mark.parametrize('text', ['', '{', '[]', '{}', '{"pid": "x", "host": 1}'])
def test_a_holder_that_cannot_be_read_is_another_process(tmp_path, holder, text):
    (tmp_path / 'run' / locks.NAME).write_text(text)
    assert find_holder(tmp_path / 'run') == 'another process'


@pytest.mark.parametrize('number', locks.WITHOUT_LOCKS)
def test_a_file_system_without_locks_gets_a_warning(tmp_path, monkeypatch, number):
    said = []

    def fail(self):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(locks.FileLock, 'acquire', fail)
    monkeypatch.setattr(locks, 'print_log', lambda text, *_: said.append(text))
    with reserve_work_dir(tmp_path / 'run'):
        assert len(said) == 1 and 'on a file system without locks' in said[0]


def test_a_full_disk_is_told_with_its_file(tmp_path, monkeypatch):
    def fail(descriptor, content):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(locks.os, 'write', fail)
    with pytest.raises(OSError, match='No space left') as told, reserve_work_dir(tmp_path / 'run'):
        pass
    assert told.value.filename == str(tmp_path / 'run' / locks.NAME)


def test_a_work_directory_that_is_none(tmp_path, folder):  # noqa: F811
    for wrong in ('', '  ', 5):
        with pytest.raises(UserError, match='--work-dir is .*: name a folder'):
            choose_work_dir(config(folder), wrong)
    cfg = config(folder)
    cfg.work_dir = ''
    with pytest.raises(UserError, match="work_dir is '': name a folder"):
        train(cfg)
    (tmp_path / 'file').touch()
    for place in ('file', 'file/run'):
        with pytest.raises(OSError, match='File exists|Not a directory'):
            train(config(folder), tmp_path / place)


def start_child_with_watch(tell, parent):
    """Start a process that ends with this one, or with the one that is named, and leave it behind."""
    child = FORK.Process(target=watch_and_sleep, args=(parent,))
    child.start()
    tell.send(child.pid)
    time.sleep(600)


def watch_and_sleep(parent):
    end_with_parent(parent, pause=0.05)
    time.sleep(600)


@pytest.mark.process
def test_a_process_ends_with_its_parent(tmp_path):
    heard, tell = FORK.Pipe(duplex=False)
    parent = FORK.Process(target=start_child_with_watch, args=(tell, None))
    parent.start()
    child = heard.recv()
    time.sleep(0.3)
    assert is_alive(child)
    parent.kill()
    parent.join()
    assert wait_until(lambda: not is_alive(child))


@pytest.mark.process
def test_a_process_ends_whose_parent_is_gone_before_it_looks():
    heard, tell = FORK.Pipe(duplex=False)
    parent = FORK.Process(target=start_child_with_watch, args=(tell, 2**22 + 1))  # above the highest process number
    parent.start()
    child = heard.recv()
    assert wait_until(lambda: not is_alive(child))
    assert parent.is_alive()
    parent.kill()
    parent.join()


RANK = """
    import os, sys, time
    from pathlib import Path

    import torch

    from mae_toolkit.engine.distributed import init_distributed
    from mae_toolkit.engine.locks import reserve_work_dir

    init_distributed('pytorch')
    rank, folder = torch.distributed.get_rank(), Path(sys.argv[1])
    torch.distributed.barrier()
    if rank == 0:
        with reserve_work_dir(folder):
            (folder / 'pid0').write_text(str(os.getpid()))
            time.sleep(600)  # so that the other one waits in a collective call
    (folder / 'pid1').write_text(str(os.getpid()))
    torch.distributed.barrier()
"""


@pytest.mark.process
@pytest.mark.skipif(not torch.distributed.is_available(), reason='torch has no torch.distributed')
def test_ranks_end_when_torchrun_is_killed(tmp_path):
    script = tmp_path / 'rank.py'
    script.write_text(textwrap.dedent(RANK))
    command = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2', script, tmp_path]
    env = os.environ | {'PYTHONPATH': str(ROOT), 'OMP_NUM_THREADS': '1', 'CUDA_VISIBLE_DEVICES': ''}
    agent = start_python(*command, env=env)
    files = [tmp_path / 'pid0', tmp_path / 'pid1']
    try:
        assert wait_until(lambda: all(path.is_file() and path.read_text() for path in files))
        ranks = [int(path.read_text()) for path in files]
        assert all(map(is_alive, ranks)) and find_holder(tmp_path) is not None
    finally:
        agent.kill()
        agent.wait()
    left = [] if wait_until(lambda: not any(map(is_alive, ranks))) else list(filter(is_alive, ranks))
    for rank in left:
        os.kill(rank, signal.SIGKILL)
    assert not left
    assert wait_until(lambda: find_holder(tmp_path) is None)  # a process lets go of its files after it has ended
    assert json.loads((tmp_path / '.lock').read_text())['pid'] == ranks[0]
