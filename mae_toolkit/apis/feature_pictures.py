"""Look at the features of an encoder: their three main components as colors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.evaluation.embeddings import FeatureExtractor
from mae_toolkit.evaluation.embeddings.extractor import check_levels
from mae_toolkit.evaluation.embeddings.reading import list_items, refuse_none_read
from mae_toolkit.evaluation.explanation.components import fit_components
from mae_toolkit.visualization.explanation.feature_colors import enlarge_colors
from mae_toolkit.visualization.grid import make_picture_grid
from mae_toolkit.visualization.retrieval import to_picture


def draw_components(
    extractor: FeatureExtractor, images: Any, level: int | None = None, side: int | None = None
) -> Image.Image:
    """Draw each image, as the encoder saw it, beside the main components of its features.

    The three directions in which the features of all positions of all images vary most are red, green and blue, so that
    equal colors in several images mean similar features (as in DINOv2, arXiv:2304.07193, figure 1).

    Args:
        extractor: With the encoder.
        images: See :meth:`~mae_toolkit.evaluation.embeddings.FeatureExtractor.__call__`.
        level: Level, counted from 1 for the finest; the coarsest if None.
        side: Pixels of the longer side of each picture; that of what the encoder saw if None.

    Raises:
        UserError: If there is no such level, there are no images, or none can be read.
    """
    levels = len(extractor.encoder.out_channels)
    level = levels if level is None else level
    check_levels([level], levels)
    items, _ = list_items(images)
    shown, maps = [], []
    for batch in extractor.encode(items):
        shown += [to_shown(extractor, img) for img in batch.imgs]
        maps += list(batch.features.maps[level - 1].float().cpu())
    if not maps:
        refuse_none_read(len(items), extractor.skipped)
    colors = [
        enlarge_colors(picture, image.shape) for picture, image in zip(color_components(maps), shown, strict=True)
    ]
    return make_picture_grid(list(zip(shown, colors, strict=True)), ['image', f'features of level {level}'], side)


def color_components(maps: Sequence[Tensor]) -> list[np.ndarray]:
    """Color maps (C, h, w) by the three main components of all their positions: pictures (h, w, 3) uint8.

    Each component is stretched from its 1st to its 99th percentile, and has the sign that makes its largest weight
    positive, so that the same features have the same colors.
    """
    return fit_components(maps).color(maps)


def to_shown(extractor: FeatureExtractor, img: Tensor) -> np.ndarray:
    """Convert what an encoder saw, (C, H, W), to a picture (H, W, 3) uint8."""
    if not isinstance(extractor.transform, EncoderTransform):
        return to_picture(img.permute(1, 2, 0).cpu().numpy())
    about = extractor.transform.preparation
    mean, std = (torch.tensor(values, device=img.device).view(-1, 1, 1) for values in (about.mean, about.std))
    pixels = (img * std + mean).permute(1, 2, 0).cpu().numpy()
    return to_picture(pixels.round().clip(0, 255).astype(np.uint8) if about.dtype == 'uint8' else pixels)
