"""What is unusual about the images of a downstream training."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config

from mae_toolkit.apis.dataset_images import build_dataset, find_image
from mae_toolkit.datasets.fingerprint import FEW, take_fingerprint
from mae_toolkit.planning.loaded_images import BYTE_PER_WORD
from mae_toolkit.planning.normalization import describe_unlike
from mae_toolkit.registry import SCOPE
from mae_toolkit.spread import spread_indices

REMEDY = '--cfg-options model.data_preprocessor.mean={mean} model.data_preprocessor.std={std}'


def compare_with_weights(cfg: Config) -> str | None:
    """Say in one sentence that the training images are quite unlike those of the encoder's weights; None if not.

    A few images at equal distances are measured.

    Args:
        cfg: Config of a detector, segmenter or classifier, normalized as the weights were.
    """
    normal: Any = cfg.model.get('data_preprocessor') or {}
    if not normal.get('mean') or not normal.get('std'):
        return None
    dataset = build_dataset(cfg, cfg.train_dataloader.dataset)
    found = take_fingerprint('', [str(find_image(dataset, i)) for i in spread_indices(len(dataset), FEW)])
    if not found.readable:
        return None
    # A detector or segmenter gets the upper 8 bits of 16.
    loaded = BYTE_PER_WORD if cfg.get('default_scope', SCOPE) != SCOPE and 'uint16' in found.dtypes else 1
    mean, std = ([loaded * value for value in values] for values in (found.mean, found.std))
    return describe_unlike(normal.mean, normal.std, mean, std, REMEDY)
