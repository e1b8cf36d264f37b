"""What an encoder is worth, without training anything more."""

from mae_toolkit.evaluation.features import pooled_features
from mae_toolkit.evaluation.knn import knn_accuracy

__all__ = ['knn_accuracy', 'pooled_features']
