"""Reconstruct files: write a picture for each, and one JSON file that lists them and what was skipped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mae_toolkit.apis.per_image import GrowingRecord, run_over_images
from mae_toolkit.apis.predict import prepare_folder
from mae_toolkit.datasets import BrokenImageError, ImageLimits, Resize
from mae_toolkit.datasets.any_image import check_finite
from mae_toolkit.datasets.image_dataset import convert_channels
from mae_toolkit.datasets.image_io import ImageFile, decode_image
from mae_toolkit.datasets.thin_images import check_output_size
from mae_toolkit.errors import UserError
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.outputs import write_picture
from mae_toolkit.visualization import make_picture_grid, reconstruct
from mae_toolkit.visualization.reconstruction import draw_reconstruction, explain_nothing_shown, find_shown_objective

RECORD = 'reconstructions.json'
TOOL = 'reconstruct'


def reconstruct_images(
    model: MaskedAutoencoder,
    images: Sequence[Path],
    out: str | Path,
    short_side: int | None = None,
    side: int | None = None,
    seed: int = 0,
    limits: ImageLimits | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Hide parts of images, and write what a model reconstructs: a picture for each, and ``reconstructions.json``.

    The JSON file is whole after each image, so that what was done is kept when the run is interrupted or killed.

    Args:
        model: The model, in evaluation mode.
        images: The files, as :func:`~mae_toolkit.datasets.image_files.find_images` lists them.
        out: The folder; created if needed.
        short_side: Pixels to which the shorter side of each image is resized; its own size if None.
        side: Pixels of the longer side of each picture; its own size if None.
        seed: Seed of the masks.
        limits: Largest image that is decoded.
        force: Replace files in the folder that were not written by this function.

    Returns:
        What the JSON file holds: ``seed``; ``images``, for each its path, height, width and the name of its picture;
        ``skipped``, the path and reason of each that could not be reconstructed.

    Raises:
        UserError: If the model predicts no picture, the folder holds some of the images or files of others, or none of
            the images could be reconstructed because of what they are.
        Exception: What failed first, if nothing could be reconstructed for another reason.
    """
    if find_shown_objective(model) is None:
        raise UserError(explain_nothing_shown(model))
    out, limits = Path(out), limits or ImageLimits()
    names = prepare_folder(out, images, RECORD, 'seed', TOOL, force=force)
    resize = Resize(short_side) if short_side else None

    def work(number: int, file: ImageFile) -> dict[str, Any]:
        torch.manual_seed(seed + number)
        columns = _columns(model, file, resize)
        write_picture(
            out / f'{names[number]}.png', make_picture_grid([list(columns.values())], list(columns), side), TOOL
        )
        height, width = file.size
        return {'image': str(file.path), 'height': height, 'width': width, 'picture': f'{names[number]}.png'}

    return run_over_images(images, work, GrowingRecord(out / RECORD, {'seed': seed}), limits)


def _columns(model: MaskedAutoencoder, file: ImageFile, resize: Resize | None) -> dict[str, np.ndarray]:
    """Reconstruct one image, and return the pictures to show by their headings."""
    image = decode_image(file)
    check_finite(image, file.path)
    if resize is not None:
        check_output_size(resize, image.shape[:2], file.limits)
        image = resize(image, np.random.default_rng(0))
    image = convert_channels(image, model.encoder.in_chans, str(file.path), file.size)
    batch = {'imgs': torch.from_numpy(image.transpose(2, 0, 1).copy())[None]}
    result = reconstruct(model, model.data_preprocessor(batch)['imgs'])
    if not result.predicted.isfinite().all():
        raise BrokenImageError(file.path, 'its prediction is not finite')
    return draw_reconstruction(result, 0, model.data_preprocessor)
