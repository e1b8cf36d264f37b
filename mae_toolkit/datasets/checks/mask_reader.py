"""Reading of masks, as the pipeline of a dataset reads them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from mmengine.registry import DefaultScope
from PIL import Image

from mae_toolkit.errors import wrap_build_error

VALUES = 256  # that a label can have
DEEP = ('I', 'F')  # that Pillow's modes of more than 8 bits begin with


@dataclass
class MaskReader:
    """The step of a pipeline that loads masks.

    Attributes:
        load: The transform.
        is_plain: Whether it is MMSegmentation's own by Pillow, so that the file says what will be read.
        is_own: Whether it is MMSegmentation's own, so that any error is the file's.
    """

    load: Any
    is_plain: bool
    is_own: bool

    @classmethod
    def from_config(cls, dataset_cfg: Mapping, cfg: Mapping) -> MaskReader | None:
        """Build the first step of a dataset's pipeline that is a LoadAnnotations of MMSegmentation's, or None."""
        from mmseg.datasets.transforms import LoadAnnotations
        from mmseg.registry import TRANSFORMS

        with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
            for step in dataset_cfg.get('pipeline') or ():
                kind = step.get('type') if isinstance(step, Mapping) else type(step)
                kind = TRANSFORMS.get(kind) if isinstance(kind, str) else kind
                if not isinstance(kind, type) or not issubclass(kind, LoadAnnotations):
                    continue
                with wrap_build_error(f'The {kind.__name__} of the pipeline'):
                    load = TRANSFORMS.build(step) if isinstance(step, Mapping) else step
                own = kind is LoadAnnotations
                return cls(load, own and load.imdecode_backend == 'pillow', own)
        return None


@dataclass
class MaskLabels:
    """What was read of one mask.

    Attributes:
        path: The file.
        pixels: (256,) how often each label occurs, as the pipeline reads them.
        channels: Values per pixel, one where it is a mask.
        reason: Why it cannot be read.
        deep: Values of the file that 8 bits cannot hold.
        has_fractions: Whether the file holds numbers that are none of classes.
        colors: Color of each index that occurs, of a mask with a palette.
    """

    path: str
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(VALUES, np.int64))
    channels: int = 1
    reason: str = ''
    deep: list[int] = field(default_factory=list)
    has_fractions: bool = False
    colors: dict[int, tuple[int, ...]] = field(default_factory=dict)


def read_mask(info: dict, reader: MaskReader) -> MaskLabels:
    """Read one mask as the pipeline does.

    Args:
        info: What the dataset knows of the image.
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
    found.pixels = np.bincount(loaded.astype(np.uint8).ravel(), minlength=VALUES)
    return found


def _read_file(found: MaskLabels) -> None:
    """Note what the step does not show: values beyond 8 bits, and the colors of a palette."""
    with Image.open(found.path) as picture:
        if picture.mode == 'P':
            palette = np.array(picture.getpalette('RGB'), np.uint8).reshape(-1, 3)
            used = np.flatnonzero(picture.histogram())
            found.colors = {int(i): tuple(palette[i].tolist()) for i in used if i < len(palette)}
        if not picture.mode.startswith(DEEP):
            return
        values = np.unique(np.asarray(picture))
    whole = values[np.isfinite(values)] if values.dtype.kind == 'f' else values
    found.has_fractions = len(whole) < len(values) or bool((whole != np.round(whole)).any())
    found.deep = [int(value) for value in whole if not 0 <= value < VALUES]
