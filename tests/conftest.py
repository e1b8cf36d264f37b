"""What all tests share."""

import functools
import gc
import multiprocessing.util
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from joblib.externals.loky.backend import context
from mmengine.registry import DefaultScope
from mmengine.runner import runner
from mmengine.utils import version_utils

from mae_toolkit.engine import _mmengine

ROOT = Path(__file__).resolve().parents[1]
# Whether the test that runs may start processes: it has the mark ``process``.
_MAY_START = [True]


def _guarded(start):
    """The same function, which fails a test without the mark."""

    @functools.wraps(start)
    def start_if_marked(*args, **kwargs):
        if not _MAY_START[0]:
            pytest.fail('This test starts a process: mark it with pytest.mark.process, or run it in this process.')
        return start(*args, **kwargs)

    return start_if_marked


def _once(ask):
    """The same function, which starts its processes the first time that it is asked, in whatever test that is."""
    answers = {}

    @functools.wraps(ask)
    def ask_once(*args):
        before, _MAY_START[0] = _MAY_START[0], True
        try:
            if str(args) not in answers:
                answers[str(args)] = ask(*args)
            return answers[str(args)]
        finally:
            _MAY_START[0] = before

    return ask_once


def pytest_configure(config):
    """Watch over the ways to start a process; and spare what takes time and proves nothing.

    Compilers and git are asked for their versions once, not in each run, and so is lscpu for the cores, which is what
    scikit-learn does where OMP_NUM_THREADS is not set. What is written is not flushed to the disk: it is lost if the
    machine fails, never if a process is killed.
    """
    subprocess.Popen.__init__ = _guarded(subprocess.Popen.__init__)
    os.fork = _guarded(os.fork)
    multiprocessing.util.spawnv_passfds = _guarded(multiprocessing.util.spawnv_passfds)
    runner.collect_env = _once(runner.collect_env)
    version_utils._minimal_ext_cmd = _once(version_utils._minimal_ext_cmd)
    context._count_physical_cores = _once(context._count_physical_cores)
    os.fsync = lambda descriptor: None


def pytest_collection_modifyitems(items):
    """Begin with the tests that wait for Slurm: the other workers compute meanwhile, and none ends with the wait."""
    items.sort(key=lambda item: 'slurm' not in item.path.name)


def pytest_collection_finish(session):
    """Leave what was imported out of every garbage collection from here on.

    Configs that runs write are not formatted by yapf, which takes longer than a few steps; in the processes that tests
    start, they are.
    """
    _mmengine.import_yapf()
    sys.modules[_mmengine.YAPF].FormatCode = lambda text, **_: (text, True)
    # Autograd starts its threads in the first backward pass: if that came after an export as a graph, there would be
    # some for the CPU alone, too, and no backward pass in the forks of later tests.
    torch.ones(1, requires_grad=True).sum().backward()
    gc.collect()
    gc.freeze()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Let a test, and the fixtures that are made for it, start processes if it has the mark."""
    _MAY_START[0] = item.get_closest_marker('process') is not None
    try:
        return (yield)
    finally:
        _MAY_START[0] = True


@pytest.fixture(autouse=True)
def _quiet_machine():
    """One thread and one seed, so that tests may run side by side."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _own_scope():
    """Whatever scope a test enters (a detector's, say), the next one begins outside of it."""
    before = DefaultScope.get_current_instance()
    yield
    if before is not DefaultScope.get_current_instance():
        DefaultScope.get_instance(f'after test {time.monotonic_ns()}', scope_name='mae_toolkit')


@pytest.fixture(autouse=True)
def _own_signals():
    """A run that ends ignores further signals; the processes of later tests would inherit that."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)}
    yield
    for number, handler in before.items():
        if handler is not None and signal.getsignal(number) is not handler:
            signal.signal(number, handler)


@pytest.fixture
def root():
    """The repository."""
    return ROOT


@pytest.fixture
def data():
    """Small fixtures that come with the repository."""
    return ROOT / 'tests' / 'data'
