"""Look at the features of an encoder: their three main components as colors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import FeatureExtractor
from mae_toolkit.evaluation.embeddings.extractor import check_levels
from mae_toolkit.evaluation.embeddings.reading import list_items
from mae_toolkit.printing import format_count
from mae_toolkit.visualization.grid import make_picture_grid
from mae_toolkit.visualization.retrieval import to_picture

DARK, BRIGHT = 0.01, 0.99  # quantiles of a component that are black and full color


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
        name, reason = next(iter(extractor.skipped.items()))
        raise UserError(f'None of {format_count(len(items), "image")} can be read; {name}: {reason}.')
    colors = [_enlarge(picture, image.shape) for picture, image in zip(color_components(maps), shown, strict=True)]
    return make_picture_grid(list(zip(shown, colors, strict=True)), ['image', f'features of level {level}'], side)


def color_components(maps: Sequence[Tensor]) -> list[np.ndarray]:
    """Color maps (C, h, w) by the three main components of all their positions: pictures (h, w, 3) uint8.

    Each component is stretched from its 1st to its 99th percentile, and has the sign that makes its largest weight
    positive, so that the same features have the same colors.
    """
    rows = torch.cat([x.flatten(1).T for x in maps]).double()  # (positions, C)
    rows = rows - rows.mean(0)
    _, vectors = torch.linalg.eigh(rows.T @ rows)  # in ascending order
    main = vectors[:, -3:].flip(1)
    main = main * main.gather(0, main.abs().argmax(0, keepdim=True)).sign()
    scores = rows @ main  # (positions, 3), or fewer of an encoder with fewer channels
    low, high = (torch.quantile(scores[:: max(1, len(scores) // 1_000_000)], q, dim=0) for q in (DARK, BRIGHT))
    spread = high - low
    is_flat = spread <= 1e-9 * rows.abs().amax().clamp(min=1e-30)  # the same everywhere: rounding is no color
    colors = torch.where(is_flat, 0.5, (scores - low) / spread.clamp(min=1e-30)).clamp(0, 1)
    colors = torch.nn.functional.pad(colors, (0, 3 - colors.shape[1]))
    pixels = (colors * 255).round().to(torch.uint8).split([x[0].numel() for x in maps])
    return [part.view(*x.shape[1:], 3).numpy() for part, x in zip(pixels, maps, strict=True)]


def to_shown(extractor: FeatureExtractor, img: Tensor) -> np.ndarray:
    """Convert what an encoder saw, (C, H, W), to a picture (H, W, 3) uint8."""
    if not isinstance(extractor.transform, EncoderTransform):
        return to_picture(img.permute(1, 2, 0).cpu().numpy())
    about = extractor.transform.preparation
    mean, std = (torch.tensor(values, device=img.device).view(-1, 1, 1) for values in (about.mean, about.std))
    pixels = (img * std + mean).permute(1, 2, 0).cpu().numpy()
    return to_picture(pixels.round().clip(0, 255).astype(np.uint8) if about.dtype == 'uint8' else pixels)


def _enlarge(picture: np.ndarray, shape: Sequence[int]) -> np.ndarray:
    """Enlarge a picture (h, w, 3) to the size (H, W, 3) of another, so that its positions can be seen."""
    return np.asarray(Image.fromarray(picture).resize((shape[1], shape[0]), Image.Resampling.NEAREST))
