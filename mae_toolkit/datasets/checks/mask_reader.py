"""Reading of masks by the pipeline of a dataset."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.registry import DefaultScope
from PIL import Image

from mae_toolkit.errors import wrap_build_error

NUM_LABELS = 256  # that 8 bits can store
DEEP_MODES = ('I', 'F')  # beginnings of Pillow's modes of more than 8 bits


@dataclass
class MaskReader:
    """The step of a pipeline that loads masks.

    Attributes:
        load: The transform.
        is_plain: Whether it is MMSegmentation's own with Pillow, so that the values in the file are the labels.
        is_own: Whether it is MMSegmentation's own, so that any error is due to the file.
    """

    load: Any
    is_plain: bool
    is_own: bool

    @classmethod
    def from_config(cls, dataset_cfg: Mapping, cfg: Mapping) -> MaskReader | None:
        """Build the first LoadAnnotations of MMSegmentation in a dataset's pipeline; None if there is none.

        Args:
            dataset_cfg: Config of the dataset.
            cfg: Config of the run, from which the default scope is read.
        """
        from mmseg.datasets.transforms import LoadAnnotations
        from mmseg.registry import TRANSFORMS

        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            for step in dataset_cfg.get('pipeline') or ():
                transform = step.get('type') if isinstance(step, Mapping) else type(step)
                transform = TRANSFORMS.get(transform) if isinstance(transform, str) else transform
                if not isinstance(transform, type) or not issubclass(transform, LoadAnnotations):
                    continue
                with wrap_build_error(f'The {transform.__name__} of the pipeline'):
                    load = TRANSFORMS.build(step) if isinstance(step, Mapping) else step
                is_own = transform is LoadAnnotations
                return cls(load, is_own and load.imdecode_backend == 'pillow', is_own)
        return None


@dataclass
class MaskLabels:
    """Labels and format of one mask.

    Attributes:
        path: The file.
        pixels: Number of pixels of each label (256,), as the pipeline reads them.
        channels: Number of values per pixel; 1 if it is a mask, 0 if it is not two-dimensional.
        reason: Why it cannot be read; empty if it can.
        deep: Values in the file that 8 bits cannot store.
        has_fractions: Whether the file contains fractions or infinite numbers.
        colors: Color of each index that occurs, if the mask has a palette.
    """

    path: str
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(NUM_LABELS, np.int64))
    channels: int = 1
    reason: str = ''
    deep: list[int] = field(default_factory=list)
    has_fractions: bool = False
    colors: dict[int, tuple[int, ...]] = field(default_factory=dict)


def read_mask(info: dict, reader: MaskReader) -> MaskLabels:
    """Read one mask as the pipeline does.

    Args:
        info: Annotations of the image, with ``seg_map_path``.
        reader: The step that loads masks.
    """
    found = MaskLabels(info['seg_map_path'])
    try:
        if reader.is_plain:
            _read_file(found)
        if found.has_fractions:
            return found
        loaded = reader.load(dict(info))['gt_seg_map']
    except Exception as error:  # a damaged file can make a decoder raise anything
        if not reader.is_own:
            raise
        found.reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        return found
    if loaded.ndim != 2:
        found.channels = loaded.shape[-1] if loaded.ndim > 2 else 0
        return found
    found.pixels = np.bincount(loaded.astype(np.uint8).ravel(), minlength=NUM_LABELS)
    return found


def _read_file(found: MaskLabels) -> None:
    """Set what the loading step does not return: values beyond 8 bits, and the colors of a palette."""
    with Image.open(found.path) as picture:
        if picture.mode == 'P':
            palette = np.array(picture.getpalette('RGB'), np.uint8).reshape(-1, 3)
            used = np.flatnonzero(picture.histogram())
            found.colors = {int(i): tuple(palette[i].tolist()) for i in used if i < len(palette)}
        if not picture.mode.startswith(DEEP_MODES):
            return
        values = np.unique(np.asarray(picture))
    finite = values[np.isfinite(values)] if values.dtype.kind == 'f' else values
    found.has_fractions = len(finite) < len(values) or bool((finite != np.round(finite)).any())
    found.deep = [int(value) for value in finite if not 0 <= value < NUM_LABELS]
