"""Change configs of data loaders and loops so that runs can be resumed and broken files can be counted."""

import inspect
from logging import Logger
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import Registry
from mmengine.runner import EpochBasedTrainLoop
from torch.utils.data import IterableDataset

from mae_toolkit.datasets import EpochSampler, PipelineDataset, ShardDataset, ShardSampler
from mae_toolkit.datasets.keyed_samplers import KeyedBatchSampler, KeyedSampler
from mae_toolkit.datasets.reproducible import ReproducibleDataset
from mae_toolkit.errors import UserError
from mae_toolkit.printing import some
from mae_toolkit.protocols import HasOwnSeed
from mae_toolkit.registry import DATA_SAMPLERS, DATASETS, LOOPS

# Settings of a data loader that torch refuses without worker processes.
NEED_WORKERS = ('persistent_workers', 'prefetch_factor', 'timeout', 'multiprocessing_context')


def find_class(registry: Registry, part: Any) -> Any:
    """Return the class of a part or of its config.

    Args:
        registry: Registry that knows the types of such parts.
        part: A part that is built, or its config.

    Returns:
        The class; None if the registry does not know it.
    """
    if not isinstance(part, dict):
        return type(part)
    kind = part.get('type')
    return registry.get(kind) if isinstance(kind, str) else kind


def prepare_dataloader(dataloader: dict[str, Any], seed: int | None, trains: bool, logger: Logger) -> dict[str, Any]:
    """Return the config of a data loader with the seed of the run, and without settings that it cannot use.

    Memory is pinned only where there is a device to copy to; torch warns elsewhere. Settings that need worker processes
    are left out where there are none.

    Args:
        dataloader: The config; it is not changed.
        seed: The seed that all processes share, if there is one.
        trains: Whether the loader is for training.
        logger: Logger for a line on the console about settings that are left out.
    """
    dataloader = dict(dataloader)
    if not torch.accelerator.is_available():
        dataloader['pin_memory'] = False
    if dataloader.get('num_workers', 0) == 0:
        unused = {name: dataloader.pop(name) for name in NEED_WORKERS if dataloader.get(name)}
        if unused:
            names = ', '.join(f'{name}={value}' for name, value in unused.items())
            verb = 'is' if len(unused) == 1 else 'are'
            logger.info(f'A dataloader has num_workers=0, so {names} {verb} left out.', extra={'for_users': True})
    _refuse_jumps(dataloader)
    for part in ('sampler', 'dataset'):
        dataloader[part] = add_seed(dataloader.get(part), seed)
    return add_item_seeds(dataloader, seed or 0, trains)


def describe_place(dataloader: Any) -> str:
    """Return where the images of a data loader are, such as ``' of data/train'``; empty if the config does not say."""
    dataset = dataloader.get('dataset') if isinstance(dataloader, dict) else None
    while isinstance(dataset, dict) and isinstance(dataset.get('dataset'), dict):
        dataset = dataset['dataset']
    if not isinstance(dataset, dict):
        return ''
    if urls := dataset.get('urls'):
        return f' of {urls if isinstance(urls, str) else some(urls, 2)}'
    where = [str(dataset[key]) for key in ('data_root', 'ann_file') if dataset.get(key)]
    return f' of {Path(*where)}' if where else ''


def restarts_epochs(loop: dict[str, Any]) -> bool:
    """Return whether a config is that of MMEngine's loop over epochs, which cannot resume within an epoch."""
    if 'type' not in loop:
        return bool(loop.get('by_epoch'))
    return 'by_epoch' not in loop and find_class(LOOPS, loop) is EpochBasedTrainLoop


def add_item_seeds(dataloader: dict[str, Any], seed: int, trains: bool) -> dict[str, Any]:
    """Return the config of a data loader whose sampler also gives each item the seed of its random numbers.

    A dataset of another library draws from global generators, and is wrapped in a :class:`ReproducibleDataset`. An
    :class:`PipelineDataset` does not, but needs the epoch to draw other numbers in each.

    Args:
        dataloader: The config; it is not changed.
        seed: The seed of the run.
        trains: Whether the loader is for training.
    """
    if dataloader.get('dataset') is None or dataloader.get('sampler') is None:
        return dataloader
    dataset, sampler = find_class(DATASETS, dataloader['dataset']), find_class(DATA_SAMPLERS, dataloader['sampler'])
    if _is_a(sampler, EpochSampler) or _is_a(dataset, IterableDataset):
        return dataloader
    own = _is_a(dataset, PipelineDataset)
    batches, draws = dataloader.get('batch_sampler'), {'type': KeyedSampler, 'sampler': dataloader['sampler']}
    if own:
        return dataloader | {'sampler': draws | {'as_pairs': True}} if trains and batches is None else dataloader
    wrapped = {'type': ReproducibleDataset, 'dataset': dataloader['dataset'], 'seed': seed, 'replace_broken': trains}
    if batches is None:
        return dataloader | {'dataset': wrapped, 'sampler': draws}
    return dataloader | {'dataset': wrapped, 'batch_sampler': {'type': KeyedBatchSampler, 'batch_sampler': batches}}


def add_seed(part: Any, seed: int | None) -> Any:
    """Add the seed of the run to the config of a sampler or dataset that accepts one and does not set it.

    Args:
        part: The config, or anything else, which is returned unchanged.
        seed: The seed of the run, if there is one.
    """
    if not isinstance(part, dict) or 'seed' in part or seed is None:
        return part
    kinds = (find_class(registry, part) for registry in (DATA_SAMPLERS, DATASETS))
    kind = next((kind for kind in kinds if kind is not None), None)
    takes = kind is not None and 'seed' in inspect.signature(kind.__init__).parameters
    keeps = isinstance(kind, HasOwnSeed) and kind.has_own_seed
    return {**part, 'seed': seed} if takes and not keeps else part


def _refuse_jumps(dataloader: dict[str, Any]) -> None:
    """Refuse to jump at random among shards of another machine, each of which would be copied for each image."""
    dataset, sampler = dataloader.get('dataset'), dataloader.get('sampler')
    if not isinstance(dataset, dict) or not _is_a(find_class(DATASETS, dataset), ShardDataset):
        return
    urls = dataset.get('urls', ())
    is_remote = any('://' in str(url) for url in ([urls] if isinstance(urls, str | Path) else urls))
    shuffles = isinstance(sampler, dict) and sampler.get('shuffle', True)
    if is_remote and shuffles and not _is_a(find_class(DATA_SAMPLERS, sampler), ShardSampler):
        raise UserError(
            f'The dataloader{describe_place(dataloader)} would jump among all shards, which lie on another machine: '
            "set its sampler=dict(type='ShardSampler'), which keeps to few at a time."
        )


def _is_a(kind: Any, base: type) -> bool:
    return isinstance(kind, type) and issubclass(kind, base)
