"""Defects found without labels: what images of normal things never look like."""

from mae_toolkit.evaluation.anomaly.detector import Detector
from mae_toolkit.evaluation.anomaly.methods import METHODS, AnomalyMethod
from mae_toolkit.evaluation.anomaly.metrics import (
    compute_aupro,
    compute_auroc,
    compute_f1,
    compute_f1_max,
    measure_images,
    measure_pixels,
)
from mae_toolkit.evaluation.anomaly.scoring import Anomaly

__all__ = [
    'METHODS',
    'Anomaly',
    'AnomalyMethod',
    'Detector',
    'compute_aupro',
    'compute_auroc',
    'compute_f1',
    'compute_f1_max',
    'measure_images',
    'measure_pixels',
]
