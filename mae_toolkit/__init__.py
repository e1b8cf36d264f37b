"""Masked autoencoders for pretraining vision encoders, on MMEngine."""

import os

from mae_toolkit._environment import check_conflicting_packages
from mae_toolkit.ops import install_mmcv_ops

__version__ = '0.1.0'

# Threads that wait by spinning make training some six times slower as soon as another process needs a core. OpenMP
# reads this when torch is loaded.
os.environ.setdefault('OMP_WAIT_POLICY', 'PASSIVE')

check_conflicting_packages()
install_mmcv_ops()  # for operators of MMCV that were not compiled, if they are ever asked for
