"""Train a downstream config on a fraction of its labeled images."""

from copy import deepcopy

from mae_toolkit.datasets.labeled_dataset import check_fraction
from mae_toolkit.datasets.subset_by_fraction import SubsetByFraction
from mae_toolkit.registry import DATASETS, SCOPE, list_arguments


def set_label_fraction(cfg, fraction, seed=0):
    """A downstream config that trains on a fraction of its labeled images.

    Where training is counted in epochs, these repeat their images, so that they have about as many steps as before.

    Args:
        cfg (Config): Of MMDetection, of MMSegmentation, or of a :class:`Classifier`; not changed.
        fraction (float): Above 0 and up to 1, which changes nothing. Of each class in classification, else of all
            images.
        seed (int): Which images these are.

    Returns:
        Config: The same but for the dataset that is trained on.

    Raises:
        UserError: If the fraction is none.
    """
    check_fraction('fraction', fraction)
    cfg = deepcopy(cfg)
    if fraction < 1:
        times = round(1 / fraction) if 'max_epochs' in cfg.train_cfg else 1
        cfg.train_dataloader.dataset = _cut(cfg.train_dataloader.dataset, fraction, seed, times)
    return cfg


def _cut(dataset, fraction, seed, times):
    """A dataset's config with a fraction of the images, so many times; datasets within others are cut, not these."""
    kind = DATASETS.get(dataset['type'])
    if kind is not None and 'label_fraction' in list_arguments(kind):
        return dataset | dict(label_fraction=fraction, label_seed=seed, repeat=times * dataset.get('repeat', 1))
    cut = _cut_within(dataset, fraction, seed, kind)
    return cut if times == 1 else dict(type='RepeatDataset', times=times, dataset=cut)


def _cut_within(dataset, fraction, seed, kind=None):
    if kind is SubsetByFraction:
        return dataset | dict(fraction=fraction, seed=seed)
    if 'datasets' in dataset:
        return dataset | dict(datasets=[_cut_within(one, fraction, seed) for one in dataset['datasets']])
    if 'dataset' in dataset:
        within = dataset['dataset']
        return dataset | dict(dataset=_cut_within(within, fraction, seed, DATASETS.get(within['type'])))
    return dict(type=f'{SCOPE}.{SubsetByFraction.__name__}', dataset=dataset, fraction=fraction, seed=seed)
