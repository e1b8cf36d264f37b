"""Masked autoencoders for pretraining vision encoders, on MMEngine."""

from mae_toolkit.forks import refuse_mixed_forks

__version__ = '0.1.0'

refuse_mixed_forks()
