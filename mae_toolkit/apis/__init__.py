"""What the tools do, as functions for scripts and notebooks."""

from mae_toolkit.apis.predict import predict_images
from mae_toolkit.apis.reconstruct import reconstruct_images
from mae_toolkit.apis.training import test, train
from mae_toolkit.config import load_config
from mae_toolkit.downstream import fit_encoder, known_encoders, load_predictor, set_label_fraction
from mae_toolkit.export import export
from mae_toolkit.models.build import build_model, model_from_checkpoint
from mae_toolkit.outputs import check_output

__all__ = [
    'build_model',
    'check_output',
    'export',
    'fit_encoder',
    'known_encoders',
    'load_config',
    'load_predictor',
    'model_from_checkpoint',
    'predict_images',
    'reconstruct_images',
    'set_label_fraction',
    'test',
    'train',
]
