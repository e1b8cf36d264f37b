"""What the tools do, as functions."""

from mae_toolkit.apis.config import load_config
from mae_toolkit.apis.downstream import fit_encoder, known_encoders, set_label_share
from mae_toolkit.apis.model import build_model, model_from_checkpoint
from mae_toolkit.apis.outputs import check_output
from mae_toolkit.apis.predict import predict_images
from mae_toolkit.apis.reconstruct import reconstruct_images
from mae_toolkit.apis.task_predictors import load_predictor
from mae_toolkit.apis.tool import (
    ConfigOptions,
    add_force,
    add_limits,
    device,
    limits_of,
    output_file,
    positive,
    run_tool,
    share,
)

__all__ = [
    'ConfigOptions',
    'add_force',
    'add_limits',
    'build_model',
    'check_output',
    'device',
    'fit_encoder',
    'known_encoders',
    'limits_of',
    'load_config',
    'load_predictor',
    'model_from_checkpoint',
    'output_file',
    'positive',
    'predict_images',
    'reconstruct_images',
    'run_tool',
    'set_label_share',
    'share',
]
