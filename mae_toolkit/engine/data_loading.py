"""Configs of data loaders and loops, changed so that runs can be resumed and broken files can be counted."""

from __future__ import annotations

import inspect
from logging import Logger
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import IterableDataset

from mae_toolkit.datasets import EpochSampler, ImageDataset
from mae_toolkit.datasets.keyed_samplers import KeyedBatchSampler, KeyedSampler
from mae_toolkit.datasets.reproducible import ReproducibleDataset
from mae_toolkit.protocols import HasOwnSeed
from mae_toolkit.registry import DATA_SAMPLERS, DATASETS, LOOPS

# Settings of a data loader that torch refuses without worker processes.
NEED_WORKERS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')


def class_of(registry: Registry, part: Any) -> Any:
    """Return the class of a part or of its config; None if the registry does not know it."""
    if not isinstance(part, dict):
        return type(part)
    kind = part.get('type')
    return registry.get(kind) if isinstance(kind, str) else kind


def prepare_dataloader(dataloader: dict[str, Any], seed: int | None, trains: bool, logger: Logger) -> dict[str, Any]:
    """Return a dataloader's config with the seed of the run, without settings that this machine cannot use.

    Memory is pinned only where there is a device to copy to, as torch warns elsewhere.

    Args:
        dataloader: The config; not changed.
        seed: The seed that all processes share, if there is one.
        trains: Whether it is for training.
        logger: Takes a line for the console about settings that need worker processes where there are none.
    """
    dataloader = dict(dataloader)
    if not torch.accelerator.is_available():
        dataloader['pin_memory'] = False
    if dataloader.get('num_workers', 0) == 0:
        unused = {name: dataloader.pop(name) for name in NEED_WORKERS if dataloader.get(name)}
        if unused:
            names = ', '.join(f'{name}={value}' for name, value in unused.items())
            verb = 'is' if len(unused) == 1 else 'are'
            logger.info(f'A dataloader has num_workers=0: {names} {verb} left out.', extra={'for_users': True})
    for part in ('sampler', 'dataset'):
        dataloader[part] = with_seed(dataloader.get(part), seed)
    return with_draws(dataloader, seed or 0, trains)


def describe_place(dataloader: Any) -> str:
    """Say where the images of a dataloader's config are, as the end of its name; empty if that is not known."""
    dataset = dataloader.get('dataset') if isinstance(dataloader, dict) else None
    while isinstance(dataset, dict) and isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    if not isinstance(dataset, dict):
        return ''
    where = [str(dataset[key]) for key in ('data_root', 'ann_file') if dataset.get(key)]
    return f' of {Path(*where)}' if where else ''


def restarts_epochs(loop: dict[str, Any]) -> bool:
    """Whether a loop's config is that of MMEngine's loop over epochs, which cannot resume within one."""
    if 'type' not in loop:
        return bool(loop.get('by_epoch'))
    return 'by_epoch' not in loop and class_of(LOOPS, loop) is EpochBasedTrainLoop


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
    batches, draws = dataloader.get('batch_sampler'), {'type': KeyedSampler, 'sampler': dataloader['sampler']}
    if own:
        return dataloader | {'sampler': draws | {'as_pairs': True}} if trains and batches is None else dataloader
    wrapped = {'type': ReproducibleDataset, 'dataset': dataloader['dataset'], 'seed': seed, 'replace_broken': trains}
    if batches is None:
        return dataloader | {'dataset': wrapped, 'sampler': draws}
    return dataloader | {'dataset': wrapped, 'batch_sampler': {'type': KeyedBatchSampler, 'batch_sampler': batches}}


def with_seed(part: Any, seed: int | None) -> Any:
    """Return the config of a part with the seed of the run, if the part takes one and names none."""
    if not isinstance(part, dict) or 'seed' in part or seed is None:
        return part
    kinds = (class_of(registry, part) for registry in (DATA_SAMPLERS, DATASETS))
    kind = next((kind for kind in kinds if kind is not None), None)
    takes = kind is not None and 'seed' in inspect.signature(kind.__init__).parameters
    keeps = isinstance(kind, HasOwnSeed) and kind.has_own_seed
    return {**part, 'seed': seed} if takes and not keeps else part


def _is_a(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)
