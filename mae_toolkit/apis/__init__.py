"""What the tools do, as functions."""

from mae_toolkit.apis.config import load_config
from mae_toolkit.apis.model import build_model, model_from_checkpoint
from mae_toolkit.apis.tool import ConfigOptions, run_tool

__all__ = ['ConfigOptions', 'build_model', 'load_config', 'model_from_checkpoint', 'run_tool']
