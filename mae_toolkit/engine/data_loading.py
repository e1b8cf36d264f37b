"""Configs of data loaders, changed so that augmentation can be resumed and broken files can be counted."""

from __future__ import annotations

from typing import Any

from mmengine.registry import Registry
from torch.utils.data import IterableDataset

from mae_toolkit.datasets import EpochSampler, ImageDataset
from mae_toolkit.datasets.draw_samplers import DrawBatchSampler, DrawSampler
from mae_toolkit.datasets.reproducible import ReproducibleDataset
from mae_toolkit.registry import DATA_SAMPLERS, DATASETS


def class_of(registry: Registry, part: Any) -> Any:
    """Return the class of a part or of its config; None if the registry does not know it."""
    if not isinstance(part, dict):
        return type(part)
    kind = part.get('type')
    return registry.get(kind) if isinstance(kind, str) else kind


def with_draws(dataloader: dict[str, Any], seed: int, trains: bool) -> dict[str, Any]:
    """Return a dataloader's config whose sampler says what the random numbers of an item follow from.

    An :class:`ImageDataset` draws from no global generator, but has other random numbers in each epoch only where it
    is given the epoch.
    """
    if dataloader.get('dataset') is None or dataloader.get('sampler') is None:
        return dataloader
    dataset, sampler = class_of(DATASETS, dataloader['dataset']), class_of(DATA_SAMPLERS, dataloader['sampler'])
    if _is_a(sampler, EpochSampler) or _is_a(dataset, IterableDataset):
        return dataloader
    own = _is_a(dataset, ImageDataset)
    batches, draws = dataloader.get('batch_sampler'), {'type': DrawSampler, 'sampler': dataloader['sampler']}
    if own:
        return dataloader | {'sampler': draws | {'pairs': True}} if trains and batches is None else dataloader
    wrapped = {'type': ReproducibleDataset, 'dataset': dataloader['dataset'], 'seed': seed, 'replace': trains}
    if batches is None:
        return dataloader | {'dataset': wrapped, 'sampler': draws}
    return dataloader | {'dataset': wrapped, 'batch_sampler': {'type': DrawBatchSampler, 'batch_sampler': batches}}


def _is_a(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)
