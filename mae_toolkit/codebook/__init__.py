"""Codebooks: centers of image patches, found by k-means, as targets of pretraining."""

from mae_toolkit.codebook.kmeans import kmeans
from mae_toolkit.codebook.patches import build_codebook_target, collect_training_patches

__all__ = ['build_codebook_target', 'collect_training_patches', 'kmeans']
