"""Configs: read, checked, compared and printed."""

from mae_toolkit.config.load import load_config

__all__ = ['load_config']
