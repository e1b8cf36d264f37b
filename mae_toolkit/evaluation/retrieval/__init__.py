"""What vectors of images find: the most similar images, the same ones, and groups."""

from mae_toolkit.evaluation.retrieval.alignment import Alignment, align, look_at
from mae_toolkit.evaluation.retrieval.clusters import Clusters, cluster_vectors
from mae_toolkit.evaluation.retrieval.duplicates import Duplicate, search_duplicates
from mae_toolkit.evaluation.retrieval.neighbors import compare_patches, find_neighbors

__all__ = [
    'Alignment',
    'Clusters',
    'Duplicate',
    'align',
    'cluster_vectors',
    'compare_patches',
    'find_neighbors',
    'look_at',
    'search_duplicates',
]
