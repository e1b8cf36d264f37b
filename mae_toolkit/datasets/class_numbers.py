"""Classes of validation and test, numbered as in training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.labeled_dataset import LabeledDataset, class_folders
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.registry import DATASETS


def is_labeled(dataset: Any) -> bool:
    """Whether a dataset's config is one of a :class:`LabeledDataset` that can be given its classes."""
    if not isinstance(dataset, Mapping) or 'type' not in dataset:
        return False
    kind = DATASETS.get(dataset['type']) if isinstance(dataset['type'], str) else dataset['type']
    if not isinstance(kind, type) or not issubclass(kind, LabeledDataset):
        return False
    parameters = inspect.signature(kind.__init__).parameters
    return 'classes' in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def list_classes(dataset: Mapping) -> list[str]:
    """List the classes of a labeled dataset's config in the order of their numbers; no image is opened.

    Raises:
        UserError: If its images cannot be found, or their classes are none.
    """
    layout, classes = dataset.get('layout'), dataset.get('classes')
    plain = dataset['type'] in ('LabeledDataset', 'mae_toolkit.LabeledDataset', LabeledDataset)
    in_folders = dataset.get('ann_file') is None and layout in (None, 'folder', 'imagenet')
    if plain and in_folders and classes is None and dataset.get('hold_out') is None:
        folder = Path(dataset.get('data_root') or '') / (dataset.get('split') or '')
        if dataset.get('data_root') and folder.is_dir():  # else the dataset says what is wrong
            found = class_folders(folder)
            if len(found) > 1:
                return found
    built = DATASETS.build({**dataset, 'pipeline': (), 'labels': None})
    return list(built.metainfo['classes'])


def number_as_in_training(loader: Any, train_loader: Any) -> Any:
    """Name the classes of training in the config of a dataloader for validation or test that names none.

    Without them such a dataset numbers its own classes, and one that lacks the first class of training numbers all
    others one too low.

    Args:
        loader: Config of a dataloader, or whatever else stands in its place.
        train_loader: That of training.

    Returns:
        A copy with ``dataset.classes``; or ``loader`` itself where there is nothing to name, also where the training
        images are not on this machine.
    """
    dataset = loader.get('dataset') if isinstance(loader, Mapping) else None
    train = train_loader.get('dataset') if isinstance(train_loader, Mapping) else None
    if not is_labeled(dataset) or not is_labeled(train) or dataset.get('classes') is not None:
        return loader
    try:
        with wrap_build_error('The dataset of train_dataloader'):
            classes = list_classes(train)
    except UserError:  # training, if there is any, will say it
        return loader
    return {**loader, 'dataset': {**dataset, 'classes': classes}}
