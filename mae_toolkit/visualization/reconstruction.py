"""Show what a masked autoencoder makes of the hidden part of images."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import matplotlib
import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

from mae_toolkit.errors import UserError
from mae_toolkit.models import ImagePreprocessor, MaskedAutoencoder
from mae_toolkit.models.mask_ops import hide, upsample
from mae_toolkit.protocols import MakesImages
from mae_toolkit.visualization.grid import to_rgb

GRAY = 160


class Reconstruction(NamedTuple):
    """Images (B, C, H, W) in the units of the normalized input, and what was hidden of them.

    Attributes:
        original: The images.
        hidden: (B, 1, H, W) bool, True where the encoder saw nothing.
        predicted: What the model knows. A prediction of patches normalized by their own statistics gets the
            statistics of the visible patches around.
        informed: The same prediction with the image's own statistics of the hidden patches, which the model does not
            know; None where the target is not normalized per patch.
    """

    original: Tensor
    hidden: Tensor
    predicted: Tensor
    informed: Tensor | None

    def apply(self, change: Callable[[Tensor], Tensor]) -> Reconstruction:
        """Change each of the tensors, such as by moving it to the CPU or by cutting out a part."""
        informed = None if self.informed is None else change(self.informed)
        return Reconstruction(change(self.original), change(self.hidden), change(self.predicted), informed)

    def paste(self, prediction: Tensor) -> Tensor:
        """Return a prediction where the image is hidden, and the original where it is visible."""
        return torch.where(self.hidden, prediction, self.original)

    def error(self, prediction: Tensor) -> Tensor:
        """Return the mean absolute difference over channels (B, 1, H, W), zero where the image is visible."""
        return hide((prediction - self.original).abs().mean(1, keepdim=True), ~self.hidden)


@torch.no_grad()
def reconstruct(model: MaskedAutoencoder, imgs: Tensor, mask: Tensor | None = None) -> Reconstruction:
    """Hide parts of images, predict them, and put the prediction back.

    Args:
        model: A model in evaluation mode; the first of its objectives that predicts a picture is shown.
        imgs: (B, C, H, W), normalized; sizes that the mask unit does not divide are padded and cropped again.
        mask: (B, 1, h, w) bool for the padded images, True where hidden; drawn if None.

    Raises:
        UserError: If no objective predicts a picture.
    """
    name = find_shown_objective(model)
    if name is None:
        raise UserError(explain_nothing_shown(model))
    target, unit = model.objectives[name].target, model.masking.unit
    height, width = imgs.shape[-2:]
    imgs = pad_to_unit(imgs, unit)
    predictions, mask = model(imgs, mask=mask, mode='predict')
    prediction, hidden = predictions[name].to(imgs.dtype), upsample(mask, imgs.shape[-2:])
    predicted, informed = target.to_image(prediction), None
    if target.norm_pix:
        true = target.statistics(imgs)
        predicted = target.to_image(prediction, [_from_visible(s, upsample(mask, s.shape[-2:])) for s in true])
        informed = target.to_image(prediction, true)
    crop = (..., slice(height), slice(width))
    return Reconstruction(imgs[crop], hidden[crop], predicted[crop], None if informed is None else informed[crop])


def find_shown_objective(model: MaskedAutoencoder) -> str | None:
    """Find the name of the first objective whose target can be made a picture (``to_image``); None if there is none."""
    return next(
        (name for name, objective in model.objectives.items() if isinstance(objective.target, MakesImages)), None
    )


def explain_nothing_shown(model: MaskedAutoencoder) -> str:
    """Say in a sentence that a model has no objective that can be shown."""
    targets = ', '.join(f'{name}: {type(objective.target).__name__}' for name, objective in model.objectives.items())
    return (
        f'No objective of this model predicts a picture ({targets}), so that no reconstruction can be shown: '
        'it takes one with a PixelTarget or a LaplacianTarget.'
    )


def draw_reconstruction(result: Reconstruction, index: int, preprocessor: ImagePreprocessor) -> dict[str, np.ndarray]:
    """Draw the columns that show one image of a reconstruction.

    Args:
        result: What :func:`reconstruct` returned for a batch.
        index: Number of the image in the batch.
        preprocessor: The model's, which takes images back to the units of their files.

    Returns:
        Pictures (H, W, 3) uint8 by heading.
    """
    raw = {'original': result.original, 'prediction': result.predicted, 'pasted': result.paste(result.predicted)}
    if result.informed is not None:
        raw['pasted, with patch statistics that the model does not know'] = result.paste(result.informed)
    units = {name: preprocessor.denormalize(x[index].float()).cpu().numpy() for name, x in raw.items()}
    low, high = find_display_range(units['original'])
    shown = {name: to_rgb(x, low, high) for name, x in units.items()}
    hidden = result.hidden[index, 0].cpu().numpy()
    masked = np.where(hidden[..., None], np.uint8(GRAY), shown['original'])
    shown['prediction'] = np.where(hidden[..., None], shown['prediction'], np.uint8(GRAY))  # untrained where visible
    error = result.error(result.predicted)[index, 0].float().cpu().numpy()
    colors = matplotlib.colormaps['magma'](np.clip(error / 2, 0, 1))[..., :3]  # 2: two standard deviations
    original = shown.pop('original')
    return {'original': original, 'masked': masked, **shown, 'error': (colors * 255).astype(np.uint8)}


def find_display_range(image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose the values of an image (C, H, W) that are shown as black and as white.

    They are 0 and 255 where the image looks like bytes, or else the 1st and the 99.5th percentile of each channel.

    Returns:
        Both (C, 1, 1).
    """
    flat = image.reshape(len(image), -1)
    if image.min() >= -1 and 1.5 < image.max() <= 256:
        return np.zeros((len(image), 1, 1)), np.full((len(image), 1, 1), 255.0)
    low, high = np.percentile(flat, (1, 99.5), axis=1)
    return low[:, None, None], high[:, None, None]


def pad_to_unit(imgs: Tensor, unit: int) -> Tensor:
    """Repeat the last row and column of images (B, C, H, W) until the unit divides their sides."""
    height, width = imgs.shape[-2:]
    return pad(imgs, (0, -width % unit, 0, -height % unit), mode='replicate')


def _from_visible(statistics: Tensor, hidden: Tensor) -> Tensor:
    """Fill hidden cells (B, 1, h, w) of (B, S, h, w) with a Gaussian-weighted mean of the visible ones around."""
    visible = (~hidden).to(statistics.dtype)
    around = _blur((statistics * visible).flatten(0, 1).unsqueeze(1)).view_as(statistics) / _blur(visible)
    return torch.where(hidden, around, statistics)


def _blur(x: Tensor) -> Tensor:
    """Sum with weights around each cell of (N, 1, h, w); far cells count where there are no near ones."""
    for dim in (2, 3):
        reach = x.shape[dim] - 1
        steps = torch.arange(-reach, reach + 1, device=x.device, dtype=x.dtype)
        kernel = torch.exp(-(steps**2) / 2) + 1e-6 / (1 + steps.abs())
        shape = (1, 1, -1, 1) if dim == 2 else (1, 1, 1, -1)
        x = conv2d(x, kernel.view(shape), padding=(reach, 0) if dim == 2 else (0, reach))
    return x
