"""Build detectors, segmenters and classifiers on a pretrained encoder, and predict with them."""

from mae_toolkit.downstream.fit_encoder import fit_encoder, known_encoders
from mae_toolkit.downstream.label_fraction import set_label_fraction
from mae_toolkit.downstream.task_predictors import load_predictor

__all__ = ['fit_encoder', 'known_encoders', 'load_predictor', 'set_label_fraction']
