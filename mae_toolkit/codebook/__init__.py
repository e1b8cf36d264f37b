"""Codebooks: centers of image patches, found by k-means, as targets of pretraining."""

from mae_toolkit.codebook.kmeans import kmeans
from mae_toolkit.codebook.patches import codebook_target, training_patches

__all__ = ['codebook_target', 'kmeans', 'training_patches']
