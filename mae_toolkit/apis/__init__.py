"""What the tools do, as functions."""

from mae_toolkit.apis.config import load_config
from mae_toolkit.apis.downstream import fit_encoder, known_encoders, set_label_share
from mae_toolkit.apis.model import build_model, model_from_checkpoint
from mae_toolkit.apis.tool import ConfigOptions, output_file, positive, run_tool

__all__ = [
    'ConfigOptions',
    'build_model',
    'fit_encoder',
    'known_encoders',
    'load_config',
    'model_from_checkpoint',
    'output_file',
    'positive',
    'run_tool',
    'set_label_share',
]
