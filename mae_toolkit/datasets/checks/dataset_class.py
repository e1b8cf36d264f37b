"""The class of a dataset's config."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS

from mae_toolkit.registry import SCOPE


def find_dataset_class(dataset_cfg: Mapping[str, Any], cfg: Mapping[str, Any]) -> Any:
    """Return the class of a dataset's config as a run of the config would find it, or None if it is not registered.

    Args:
        dataset_cfg: Config of the dataset, whose ``type`` is a class or its name.
        cfg: Config of the run, from which the default scope is read.
    """
    cls = dataset_cfg.get('type')
    if isinstance(cls, str):
        with DATASETS.switch_scope_and_registry(cfg.get('default_scope', SCOPE)) as registry:
            cls = registry.get(cls)
    return cls if isinstance(cls, type) else None
