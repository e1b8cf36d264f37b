"""Masked autoencoders for pretraining vision encoders, on MMEngine.

``from mae_toolkit import pretrain, finetune, load_encoder``: the three functions of the program ``mae-toolkit``; all
others are in :mod:`mae_toolkit.apis`.
"""

import importlib
import os
from typing import Any

from mae_toolkit._environment import check_conflicting_packages
from mae_toolkit.ops import install_mmcv_ops

__version__ = '0.1.0'

# Threads that wait by spinning make training some six times slower as soon as another process needs a core. OpenMP
# reads this when torch is loaded.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

check_conflicting_packages()
install_mmcv_ops()  # for operators of MMCV that were not compiled, if they are ever asked for


def __getattr__(name: str) -> Any:
    """Import a function of :mod:`mae_toolkit.apis` when it is asked for, so that a plain import loads no engine."""
    if name not in ('finetune', 'load_encoder', 'pretrain'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
    return getattr(importlib.import_module('mae_toolkit.apis'), name)
