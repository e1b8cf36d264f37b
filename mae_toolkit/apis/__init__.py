"""What the tools do, as functions."""

from mae_toolkit.config.load import load_config
from mae_toolkit.downstream.fit_encoder import fit_encoder, known_encoders, set_label_share
from mae_toolkit.apis.build import build_model, model_from_checkpoint
from mae_toolkit.apis.outputs import check_output
from mae_toolkit.apis.predict import predict_images
from mae_toolkit.apis.reconstruct import reconstruct_images
from mae_toolkit.downstream.task_predictors import load_predictor
from mae_toolkit.cli import (
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
