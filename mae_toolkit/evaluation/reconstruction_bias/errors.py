"""The error of a model in the hidden cells of images, beside that of an interpolation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, interpolate

from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.reconstruction_bias.baseline import interpolate_visible
from mae_toolkit.evaluation.reconstruction_bias.spectrum import measure_spectrum
from mae_toolkit.models.mask_ops import upsample
from mae_toolkit.models.masked_autoencoder import MaskedAutoencoder
from mae_toolkit.models.objective import Objective
from mae_toolkit.protocols import MakesImages

# Squared deviations of the training, about two gray levels of 256: an error that nobody sees, which is added to both
# errors, so that their ratio means nothing where both are smaller. Features have about the same range.
INVISIBLE = 1e-3


@dataclass(frozen=True)
class CellErrors:
    """Mean squared errors in the hidden cells of a batch, zero where visible.

    Attributes:
        hidden: (B, L), 1 where hidden.
        model: (B, L), of the model.
        baseline: (B, L), of the interpolation.
        spectrum: (2, B, K), of model and interpolation: sums over the hidden cells by band; None without a picture.
        channels: (2, B, C), likewise by channel of the image.
    """

    hidden: Tensor
    model: Tensor
    baseline: Tensor
    spectrum: Tensor | None
    channels: Tensor | None


def choose_objective(model: MaskedAutoencoder) -> str:
    """Choose the objective whose error is measured: the first with a picture, or else the first that is comparable.

    Raises:
        UserError: If all targets are codes.
    """
    objectives = dict(model.objectives.items())
    pictures = [name for name, objective in objectives.items() if isinstance(objective.target, MakesImages)]
    numbers = [name for name, objective in objectives.items() if objective.target.kind != 'codes']
    if not pictures and not numbers:
        kinds = ', '.join(f'{name}: {type(objective.target).__name__}' for name, objective in objectives.items())
        raise UserError(
            f'The model predicts codes alone ({kinds}), which are right or wrong and have no error that could be '
            'compared with that of an interpolation: it takes a model that predicts pixels or features.'
        )
    return (pictures or numbers)[0]


@torch.no_grad()
def measure_errors(model: MaskedAutoencoder, imgs: Tensor, mask: Tensor) -> CellErrors:
    """Measure the errors of a model and of an interpolation in hidden cells.

    If the target is normalized per patch, the model's picture gets the true mean and deviation of each patch, of which
    it predicts neither, and the interpolation gets the true mean.

    Args:
        model: The model, in evaluation mode.
        imgs: (B, C, H, W), normalized; the unit of the masking divides their sides.
        mask: (B, 1, h, w) bool, True where hidden.
    """
    name = choose_objective(model)
    objective = model.objectives[name]
    assert isinstance(objective, Objective)
    prediction = model(imgs, mask=mask, mode='predict')[0][name].to(imgs.dtype)
    hidden = mask.flatten(1).to(imgs.dtype)  # (B, L)
    if not isinstance(objective.target, MakesImages):
        return _measure_vectors(objective, prediction, imgs, mask)
    unit = imgs.shape[-1] // mask.shape[-1]
    guess = interpolate_visible(imgs, upsample(mask, imgs.shape[-2:]))
    target = objective.target
    if target.norm_pix:
        picture = target.to_image(prediction, target.statistics(imgs))
        guess = guess + _patch_means(imgs - guess, target.stride)
    else:
        picture = target.to_image(prediction)
    residuals = torch.stack([picture - imgs, guess - imgs])  # (2, B, C, H, W)
    squares = avg_pool2d((residuals**2).flatten(0, 1), unit).flatten(2).unflatten(0, (2, -1))  # (2, B, C, L)
    errors = (squares.mean(2) + INVISIBLE) * hidden
    by_channel = ((squares + INVISIBLE) * hidden[:, None]).sum(-1)
    return CellErrors(hidden, errors[0], errors[1], measure_spectrum(residuals, mask, INVISIBLE), by_channel)


def _measure_vectors(objective: Objective, prediction: Tensor, imgs: Tensor, mask: Tensor) -> CellErrors:
    """Measure the errors in the units of a target that is no picture; the target itself is interpolated."""
    target = objective.target(imgs).to(imgs.dtype)  # (B, T, H/t, W/t)
    guess = interpolate_visible(target, upsample(mask, target.shape[-2:]))
    factor = target.shape[-1] // mask.shape[-1]
    errors = [avg_pool2d((x - target) ** 2, factor).mean(1) + INVISIBLE for x in (prediction, guess)]  # each (B, h, w)
    hidden = mask[:, 0].to(imgs.dtype)
    own, of_guess = ((error * hidden).flatten(1) for error in errors)
    return CellErrors(hidden.flatten(1), own, of_guess, None, None)


def _patch_means(x: Tensor, patch: int) -> Tensor:
    """Average images (B, C, H, W) over all channels and pixels of each patch, and spread the means over it."""
    means = avg_pool2d(x.mean(1, keepdim=True), patch)
    return interpolate(means, scale_factor=patch, mode='nearest')
