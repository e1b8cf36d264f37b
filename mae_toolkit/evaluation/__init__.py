"""What an encoder is worth, without training anything more, and how well a classifier does."""

from mae_toolkit.evaluation.accuracy import Accuracy
from mae_toolkit.evaluation.features import pooled_features
from mae_toolkit.evaluation.knn import knn_accuracy

__all__ = ['Accuracy', 'knn_accuracy', 'pooled_features']
