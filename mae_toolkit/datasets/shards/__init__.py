"""Images in shards: tars of WebDataset and LMDBs, on this machine or another one."""

from mae_toolkit.datasets.shards.dataset import ShardDataset
from mae_toolkit.datasets.shards.sampler import ShardSampler, shuffle_shards

__all__ = ['ShardDataset', 'ShardSampler', 'shuffle_shards']
