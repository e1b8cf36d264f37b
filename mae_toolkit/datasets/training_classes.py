"""Class indices of training, passed on to the configs of validation and test datasets."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mae_toolkit.datasets.labeled_dataset import LabeledDataset, list_class_folders
from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.registry import DATASETS


def takes_classes(dataset_cfg: Any) -> bool:
    """Return whether a dataset's config is that of a :class:`LabeledDataset` whose constructor takes ``classes``."""
    if not isinstance(dataset_cfg, Mapping) or 'type' not in dataset_cfg:
        return False
    cls = DATASETS.get(dataset_cfg['type']) if isinstance(dataset_cfg['type'], str) else dataset_cfg['type']
    if not isinstance(cls, type) or not issubclass(cls, LabeledDataset):
        return False
    parameters = inspect.signature(cls.__init__).parameters
    return 'classes' in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def list_classes(dataset_cfg: Mapping[str, Any]) -> list[str]:
    """List the classes of a labeled dataset's config in the order of their indices, without opening an image.

    Raises:
        UserError: If the images cannot be found, or have fewer than two classes.
    """
    layout, classes = dataset_cfg.get('layout'), dataset_cfg.get('classes')
    is_plain = dataset_cfg['type'] in ('LabeledDataset', 'mae_toolkit.LabeledDataset', LabeledDataset)
    in_folders = dataset_cfg.get('ann_file') is None and layout in (None, 'folder', 'imagenet')
    if is_plain and in_folders and classes is None and dataset_cfg.get('hold_out') is None:
        folder = Path(dataset_cfg.get('data_root') or '') / (dataset_cfg.get('split') or '')
        if dataset_cfg.get('data_root') and folder.is_dir():  # otherwise the dataset itself says what is wrong
            found = list_class_folders(folder)
            if len(found) > 1:
                return found
    dataset = DATASETS.build({**dataset_cfg, 'pipeline': (), 'label_fraction': None})
    return list(dataset.metainfo['classes'])


def use_training_classes(dataloader_cfg: Any, train_dataloader_cfg: Any) -> Any:
    """Set the classes of training in the config of a validation or test dataloader that names none.

    Without them, the dataset would index its own classes: if it lacked the first class of training, all others would
    get an index that is one too low.

    Args:
        dataloader_cfg: Config of a validation or test dataloader, or whatever stands in its place.
        train_dataloader_cfg: Config of the training dataloader.

    Returns:
        A copy with ``dataset.classes``; or ``dataloader_cfg`` itself if it needs no classes, or if the training images
        are not on this machine.
    """
    dataset_cfg = _dataset_of(dataloader_cfg)
    train_cfg = _dataset_of(train_dataloader_cfg)
    if not takes_classes(dataset_cfg) or not takes_classes(train_cfg) or dataset_cfg.get('classes') is not None:
        return dataloader_cfg
    try:
        with wrap_build_error('The dataset of train_dataloader'):
            classes = list_classes(train_cfg)
    except UserError:  # if there is a training, it will raise this itself
        return dataloader_cfg
    return {**dataloader_cfg, 'dataset': {**dataset_cfg, 'classes': classes}}


def _dataset_of(dataloader_cfg: Any) -> Any:
    return dataloader_cfg.get('dataset') if isinstance(dataloader_cfg, Mapping) else None
