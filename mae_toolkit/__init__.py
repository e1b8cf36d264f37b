"""Masked autoencoders for pretraining vision encoders, on MMEngine."""

__version__ = '0.1.0'
