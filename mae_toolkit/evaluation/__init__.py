"""Metrics of classifiers, and of encoders without further training."""

from mae_toolkit.evaluation.accuracy import Accuracy
from mae_toolkit.evaluation.batch_norm import recalibrate_batch_norm
from mae_toolkit.evaluation.class_recall import ClassRecall
from mae_toolkit.evaluation.effective_rank import compute_effective_rank
from mae_toolkit.evaluation.features import extract_last_maps, extract_pooled_features
from mae_toolkit.evaluation.knn import compute_knn_accuracy
from mae_toolkit.evaluation.patch_knn import compute_patch_knn_accuracy

__all__ = [
    'Accuracy',
    'ClassRecall',
    'compute_effective_rank',
    'compute_knn_accuracy',
    'compute_patch_knn_accuracy',
    'extract_last_maps',
    'extract_pooled_features',
    'recalibrate_batch_norm',
]
