"""Vectors of images, made by an encoder: extracted, pooled, and kept in files."""

from mae_toolkit.evaluation.embeddings.extractor import EncodedBatch, FeatureExtractor
from mae_toolkit.evaluation.embeddings.files import read_embeddings, write_embeddings
from mae_toolkit.evaluation.embeddings.pooling import POOLINGS, pool_features
from mae_toolkit.evaluation.embeddings.table import Embeddings

__all__ = [
    'POOLINGS',
    'Embeddings',
    'EncodedBatch',
    'FeatureExtractor',
    'pool_features',
    'read_embeddings',
    'write_embeddings',
]
