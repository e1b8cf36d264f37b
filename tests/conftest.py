"""What all tests share."""

import time
from pathlib import Path

import pytest
import torch
from mmengine.registry import DefaultScope

ROOT = Path(__file__).resolve().parents[1]


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


@pytest.fixture
def root():
    """The repository."""
    return ROOT


@pytest.fixture
def data():
    """Small fixtures that come with the repository."""
    return ROOT / 'tests' / 'data'
