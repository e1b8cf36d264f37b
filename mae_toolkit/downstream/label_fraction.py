"""Train a downstream config on a fraction of its labeled images."""

from copy import deepcopy
from typing import Any

from mmengine.config import Config

from mae_toolkit.datasets.labeled_dataset import check_fraction
from mae_toolkit.datasets.subset_by_fraction import SubsetByFraction
from mae_toolkit.registry import DATASETS, SCOPE, list_arguments


def set_label_fraction(cfg: Config, fraction: float, seed: int = 0) -> Config:
    """Let a downstream config train on a fraction of its labeled images.

    Where the length of training is counted in epochs, the images are repeated, so that there are about as many steps as
    before: with ``fraction=0.1`` an epoch is ten passes over a tenth of the images.

    Args:
        cfg: Config of MMDetection, of MMSegmentation, or of a :class:`Classifier`; it is not changed.
        fraction: Above 0 and up to 1, which changes nothing; of each class in classification, else of all images.
        seed: Seed of the choice of images.

    Returns:
        A config that differs only in the dataset that is trained on.

    Raises:
        UserError: If the fraction is out of range.
    """
    check_fraction('fraction', fraction)
    cfg = deepcopy(cfg)
    if fraction < 1:
        times = round(1 / fraction) if 'max_epochs' in cfg.train_cfg else 1
        cfg.train_dataloader.dataset = _cut(cfg.train_dataloader.dataset, fraction, seed, times)
    return cfg


def _cut(dataset: dict[str, Any], fraction: float, seed: int, times: int) -> dict[str, Any]:
    """Return the config of a dataset with a fraction of its images, each repeated ``times`` times."""
    cls = DATASETS.get(dataset['type'])
    if cls is not None and 'label_fraction' in list_arguments(cls):
        return dataset | dict(label_fraction=fraction, label_seed=seed, repeat=times * dataset.get('repeat', 1))
    cut = _cut_innermost(dataset, fraction, seed, cls)
    return cut if times == 1 else dict(type='RepeatDataset', times=times, dataset=cut)


def _cut_innermost(dataset: dict[str, Any], fraction: float, seed: int, cls: type | None = None) -> dict[str, Any]:
    """Cut the datasets inside of those that join, repeat or wrap datasets."""
    if cls is SubsetByFraction:
        return dataset | dict(fraction=fraction, seed=seed)
    if 'datasets' in dataset:
        return dataset | dict(datasets=[_cut_innermost(one, fraction, seed) for one in dataset['datasets']])
    if 'dataset' in dataset:
        inner = dataset['dataset']
        return dataset | dict(dataset=_cut_innermost(inner, fraction, seed, DATASETS.get(inner['type'])))
    return dict(type=f'{SCOPE}.{SubsetByFraction.__name__}', dataset=dataset, fraction=fraction, seed=seed)
