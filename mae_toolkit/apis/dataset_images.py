"""The files of the images of a dataset, of this toolkit or of MMDetection and MMSegmentation."""

from __future__ import annotations

import io
from collections.abc import Mapping
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import DATASETS, DefaultScope

from mae_toolkit.registry import SCOPE


def build_dataset(cfg: Config, dataset: Mapping[str, Any]) -> Any:
    """Build a dataset of a config, without the four lines that pycocotools prints for each file of annotations.

    Args:
        cfg: The config, whose scope says where the dataset is registered.
        dataset: Config of the dataset.
    """
    scope = cfg.get('default_scope', SCOPE)
    with DefaultScope.overwrite_default_scope(scope), redirect_stdout(io.StringIO()):
        return DATASETS.build(dataset)


def find_image(dataset: Any, index: int) -> Path:
    """Return the absolute path of an image.

    Args:
        dataset: The dataset.
        index: Its number in the dataset.
    """
    if hasattr(dataset, 'names'):
        return (dataset.root / dataset.names[index]).absolute()
    return Path(dataset.get_data_info(index)['img_path']).absolute()
