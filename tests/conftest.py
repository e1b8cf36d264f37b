"""What all tests share."""

from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(autouse=True)
def _quiet_machine():
    """One thread and one seed, so that tests may run side by side."""
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def root():
    """The repository."""
    return ROOT


@pytest.fixture
def data():
    """Small fixtures that come with the repository."""
    return ROOT / 'tests' / 'data'
