"""One image on its way through a masked autoencoder: prepared, masked and reconstructed."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import itemgetter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mae_toolkit.datasets import BrokenImageError, ImageLimits, Resize
from mae_toolkit.datasets.any_image import ImageLike, as_image_file, check_finite
from mae_toolkit.datasets.image_io import decode_image
from mae_toolkit.datasets.image_pipeline import convert_channels
from mae_toolkit.datasets.thin_images import check_output_size
from mae_toolkit.errors import UserError
from mae_toolkit.models import ImagePreprocessor, MaskedAutoencoder
from mae_toolkit.models.mask_ops import hide
from mae_toolkit.models.maskings import Masking
from mae_toolkit.randomness import seeded_torch
from mae_toolkit.registry import build
from mae_toolkit.visualization.reconstruction import Reconstruction, draw_reconstruction, pad_to_unit, reconstruct


@dataclass(frozen=True, eq=False)
class ReconstructedImage:
    """What a masked autoencoder saw of an image, and what it made of the rest.

    Arrays have the size in which the model saw the image, and the units of its file, such as 0 to 255 for bytes.

    Attributes:
        index: Position of the image in the list that was asked for.
        name: What the image is called.
        size: Height and width of its file.
        result: Tensors of a batch of one, in the units of the normalized input.
        preprocessor: Takes them back to the units of the file.
    """

    index: int
    name: str
    size: tuple[int, int]
    result: Reconstruction = field(repr=False)
    preprocessor: ImagePreprocessor = field(repr=False)

    @property
    def image(self) -> np.ndarray:
        """Return the image (H, W, C) float32."""
        return self._to_array(self.result.original)

    @property
    def hidden(self) -> np.ndarray:
        """Return (H, W) bool, True where the model saw nothing."""
        return self.result.hidden[0, 0].numpy()

    @property
    def masked(self) -> np.ndarray:
        """Return the masked input (H, W, C) float32; hidden pixels have the mean color of the training."""
        return self._to_array(hide(self.result.original, self.result.hidden))

    @property
    def prediction(self) -> np.ndarray:
        """Return the prediction (H, W, C) float32; where the image is visible, a model is usually not trained.

        Of a target that is normalized per patch, hidden patches have the statistics of the visible ones around.
        """
        return self._to_array(self.result.predicted)

    @property
    def paste(self) -> np.ndarray:
        """Return the prediction where the image is hidden, and the image elsewhere: (H, W, C) float32."""
        return self._to_array(self.result.paste(self.result.predicted))

    @property
    def error(self) -> np.ndarray:
        """Return the mean absolute error over channels (H, W) float32, zero where the image is visible.

        Its unit is the standard deviation of the pixels of the training.
        """
        return self.result.error(self.result.predicted)[0, 0].float().numpy()

    def columns(self) -> dict[str, np.ndarray]:
        """Return the pictures (H, W, 3) uint8 that show the image, by their headings."""
        return draw_reconstruction(self.result, 0, self.preprocessor)

    def _to_array(self, x: Tensor) -> np.ndarray:
        return np.ascontiguousarray(self.preprocessor.denormalize(x[0].float()).permute(1, 2, 0).numpy())


@dataclass(frozen=True, eq=False)
class PreparedImage:
    """An image as a model takes it, before it is normalized.

    Attributes:
        index: Position of the image in the list that was asked for.
        name: What the image is called.
        size: Height and width of its file.
        pixels_of_file: (C, H, W) in the type of its file.
    """

    index: int
    name: str
    size: tuple[int, int]
    pixels_of_file: Tensor

    @property
    def pixels(self) -> int:
        """Return the number of pixels."""
        return self.pixels_of_file[0].numel()

    def goes_with(self, other: PreparedImage) -> bool:
        """Return whether another image can be in the same batch."""
        one, two = self.pixels_of_file, other.pixels_of_file
        return one.shape == two.shape and one.dtype == two.dtype


def prepare_image(
    item: ImageLike, index: int, name: str, model: MaskedAutoencoder, resize: Resize | None, limits: ImageLimits
) -> PreparedImage:
    """Read an image of any kind, resize it, and give it the channels of a model.

    Args:
        item: The image.
        index: Its position among others.
        name: What it is called.
        model: The model.
        resize: Resizes the image; None leaves it as it is.
        limits: Largest image that is decoded.

    Raises:
        BrokenImageError: If the image cannot be read.
        UserError: If it has other channels than the model takes.
    """
    file = as_image_file(item, limits)
    image = decode_image(file)
    check_finite(image, name)
    if resize is not None:
        check_output_size(resize, image.shape[:2], file.limits)
        image = resize(image, np.random.default_rng(0))
    image = convert_channels(image, model.encoder.in_chans, name, file.size)
    return PreparedImage(index, name, file.size, torch.from_numpy(image.transpose(2, 0, 1).copy()))


def choose_masking(
    model: MaskedAutoencoder, ratio: float | None, masking: str | Mapping[str, Any] | Masking | None
) -> Masking | None:
    """Build the masking that is asked for; None for that of the model.

    Args:
        model: The model.
        ratio: Share of the cells that is hidden; that of the masking, or else of the model, if None.
        masking: A masking, its config, or the name of its class.

    Raises:
        UserError: If there is no such masking, an argument is out of its range, or its cells have another size than
            those of the model.
    """
    if ratio is not None and not 0 < ratio < 1:
        raise UserError(f'ratio={ratio} must be between 0 and 1: it is the share of the cells that is hidden.')
    if masking is None and ratio is None:
        return None
    if masking is None or isinstance(masking, Masking):
        chosen = copy.copy(model.masking if masking is None else masking)
    else:
        config = {'type': masking} if isinstance(masking, str) else dict(masking)
        chosen = build(Masking, {'ratio': model.masking.ratio, **config}, model.wiring)
    if ratio is not None:
        chosen.ratio = ratio
    if chosen.unit != model.masking.unit:
        raise UserError(
            f'The masking hides cells of {chosen.unit} pixels, and the model was trained with cells of '
            f'{model.masking.unit}: leave unit out.'
        )
    return chosen.to(next(model.parameters()).device).eval()


def reconstruct_batch(
    model: MaskedAutoencoder,
    batch: Sequence[PreparedImage],
    seed: int,
    masking: Masking | None,
    preprocessor: ImagePreprocessor,
) -> list[tuple[int, ReconstructedImage | Exception]]:
    """Reconstruct images of one size and type.

    Args:
        model: The model.
        batch: The images.
        seed: Seed of the masks, to which the index of each image is added: it gets the mask that it would get alone.
        masking: Draws the masks; that of the model if None.
        preprocessor: That of the model, on the CPU.

    Returns:
        For each image its index, and the result or why there is none.
    """
    imgs = model.data_preprocessor({'imgs': torch.stack([one.pixels_of_file for one in batch])})['imgs']
    with seeded_torch(seed + batch[0].index):
        masks = None if len(batch) == 1 and masking is None else _draw_masks(model, imgs, batch, seed, masking)
        result = reconstruct(model, imgs, masks)
    found: list[tuple[int, ReconstructedImage | Exception]] = []
    for row, one in enumerate(batch):
        own = result.apply(itemgetter(slice(row, row + 1))).apply(Tensor.cpu)
        if own.predicted.isfinite().all():
            found.append((one.index, ReconstructedImage(one.index, one.name, one.size, own, preprocessor)))
        else:
            found.append((one.index, BrokenImageError(one.name, 'its prediction is not finite')))
    return found


@torch.no_grad()
def _draw_masks(
    model: MaskedAutoencoder, imgs: Tensor, batch: Sequence[PreparedImage], seed: int, masking: Masking | None
) -> Tensor:
    """Draw the mask (B, 1, h, w) of each image by a seed of its own, as if it were alone."""
    imgs = pad_to_unit(imgs, model.masking.unit)
    masks = []
    for row, one in enumerate(batch):
        torch.manual_seed(seed + one.index)
        img = imgs[row : row + 1]
        masks.append(model.draw_cells(img, predict_all=True).mask if masking is None else masking(img))
    return torch.cat(masks)
