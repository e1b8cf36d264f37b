"""Explain which patterns of some images a masked autoencoder reconstructs worse than those of its training."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from mae_toolkit.apis.encoders import load_autoencoder
from mae_toolkit.apis.explain.bias_sets import ImageSet, choose_set, measure_set, note_sets, prepare_for
from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.sources import AutoencoderSource, add_most
from mae_toolkit.apis.reconstruct import Reconstructor
from mae_toolkit.argument_types import positive_int, seed_number
from mae_toolkit.downstream.encoder_transform import EncoderTransform
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.reading import Images
from mae_toolkit.evaluation.reconstruction_bias import BiasReport, RankedImage, report_bias
from mae_toolkit.evaluation.reconstruction_bias.errors import choose_objective
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.planning.device import find_device
from mae_toolkit.printing import format_count
from mae_toolkit.randomness import check_seed, seeded_torch
from mae_toolkit.visualization.explanation.bias import draw_bias
from mae_toolkit.visualization.grid import to_rgb
from mae_toolkit.visualization.reconstruction import (
    draw_reconstruction,
    find_display_range,
    find_shown_objective,
    reconstruct,
)

MOST = 200
MASKS = 4
WORST = 6  # images that are shown


def explain_bias(
    source: AutoencoderSource,
    images: Images,
    reference: Images,
    *,
    held_out: Images | None = None,
    labels: str | Path | None = None,
    reference_labels: str | Path | None = None,
    most: int = MOST,
    masks: int = MASKS,
    seed: int = 0,
    size: int | Sequence[int] | None = None,
    transform: EncoderTransform | None = None,
    batch_size: int = 32,
    device: str | None = None,
) -> Explanation:
    """Show which patterns a masked autoencoder reconstructs worse in some images than in those of its training.

    The errors in hidden cells are sorted by spatial frequency, edge strength, texture, color, position and class, and
    each is divided by the error of an interpolation of the visible pixels, which no training has taught anything. A
    pattern is named only if its interval over images excludes 1, corrected for the number of patterns.

    Example::

        report = explain_bias('runs/photos', 'mine/', 'photos/')
        report.numbers['findings'], report.numbers['images'][0]

    Args:
        source: Run, checkpoint, reconstructor, or a model in evaluation mode.
        images: The images in question: a folder, files, arrays or pictures of Pillow.
        reference: The images of the training, or some of them.
        held_out: Images like those of the training that the model was not trained on. If given, the errors are compared
            with theirs, and the reference only says how common patterns are.
        labels: Classes of the images: class folders, or a CSV of files and classes. If None, and the images are a
            folder of class folders, these.
        reference_labels: Those of the reference likewise, and of the held-out images.
        most: Images of each set that are used, evenly chosen if there are more.
        masks: Masks per image.
        seed: Seed of the masks and of the draws of images for the intervals.
        size: Pixels of the images, or height and width; as in the training if None.
        transform: Prepares the images of a model that is loaded, which does not know it; if None, they are resized to
            the size of its positions, and the center is cut out.
        batch_size: Images per batch.
        device: Device; a GPU if there is one. That of the model for one that is loaded.

    Returns:
        The explanation. Its numbers: ``findings``, sentences, the most important first; ``unknown``, the patterns that
        they name; ``overall``, ``rank_correlation``, ``bins`` and ``images``, the least familiar first, see
        :class:`~mae_toolkit.evaluation.reconstruction_bias.BiasReport`; and ``notes`` on the sets: images that were
        left out, or lie in two of them.

    Raises:
        UserError: If the model predicts codes alone, a set has fewer than eight readable images, or labels do not name
            all images.
    """
    check_seed(seed)
    if masks < 1:
        raise UserError(f'masks={masks} must be 1 or more: it is how often each image is hidden in part.')
    own = choose_set(images, labels, most, 'your images')
    others = choose_set(reference, reference_labels, most, 'the reference')
    unseen = None if held_out is None else choose_set(held_out, reference_labels, most, 'the held-out images')
    model, transform = _open(source, transform, size, device)
    choose_objective(model)  # or a reason why there is none
    skipped: dict[str, str] = {}

    def measure(one: ImageSet, what: str) -> Any:
        left_out: dict[str, str] = {}  # sets may have images of the same name
        found = measure_set(model, transform, one, what, left_out, masks=masks, seed=seed, batch_size=batch_size)
        skipped.update((name if one is own else f'{what}: {name}', reason) for name, reason in left_out.items())
        return found

    user, training = measure(own, 'your images'), measure(others, 'reference')
    compared = training if unseen is None else measure(unseen, 'held-out images')
    report = report_bias(user, compared, model.masking.unit, training, seed)
    pictures = [
        _show_image(model, transform(own.items[own.names.index(one.name)]), one, seed) for one in report.images[:WORST]
    ]
    notes = note_sets(own, others, unseen)
    numbers = report.to_dict() | {
        'notes': notes,
        'error_of': _name_error(model),
        'masks': masks,
        'hidden_share': round(float(user.hidden.mean()) / masks, 4),
    }
    caption = ' '.join([_describe(report, masks), *notes])
    return Explanation('Reconstruction bias', draw_bias(report, pictures), caption, numbers, skipped)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument(
        '--reference', required=True, nargs='+', metavar='IMAGES', help='images of the training, or some of them'
    )
    parser.add_argument('--held-out', nargs='+', metavar='IMAGES', help='images like them, not used in the training')
    parser.add_argument('--labels', metavar='FILE', help='classes of IMAGES: class folders or a CSV')
    parser.add_argument('--reference-labels', metavar='FILE', help='classes of the reference likewise')
    add_most(parser, MOST)
    parser.add_argument('--masks', type=positive_int, default=MASKS, help=f'masks per image; {MASKS} by default')
    parser.add_argument('--seed', type=seed_number, default=0, help='seed of the masks and of the intervals')
    parser.add_argument('--size', type=positive_int, nargs='+', help='pixels of the images, or height and width')


def _open(
    source: AutoencoderSource, transform: EncoderTransform | None, size: int | Sequence[int] | None, device: str | None
) -> tuple[MaskedAutoencoder, EncoderTransform]:
    """Load a model with the transform of its images; a model that is loaded is used as it is."""
    if isinstance(source, Reconstructor):
        source = source.model
    if isinstance(source, MaskedAutoencoder):
        return source, prepare_for(source, transform, size)
    model, own = load_autoencoder(source, device or find_device().type)
    return model, prepare_for(model, transform or own, size)


def _name_error(model: MaskedAutoencoder) -> str:
    """Say in whose units the errors are."""
    name = choose_objective(model)
    target = model.objectives[name].target
    if find_shown_objective(model) is None:
        return f'{type(target).__name__} ({name}): squared difference of its values'
    known = ', with the true mean and deviation of each patch' if target.norm_pix else ''
    return f'pixels{known}: squared deviations of the training'


@torch.no_grad()
def _show_image(model: MaskedAutoencoder, img: torch.Tensor, one: RankedImage, seed: int) -> tuple[str, np.ndarray]:
    """Return a heading of an image, and its pictures side by side: original, reconstruction and error."""
    heading = f'{Path(one.name).name}: {one.relative_error:.3g}, percentile {one.percentile:.0f}'
    img = img[None].to(next(model.parameters()).device)
    unit = model.masking.unit
    img = img[..., : img.shape[-2] // unit * unit, : img.shape[-1] // unit * unit]
    if find_shown_objective(model) is None:
        pixels = model.data_preprocessor.denormalize(img)[0].cpu().numpy()  # (C, H, W)
        return heading, to_rgb(pixels, *find_display_range(pixels))
    with seeded_torch(seed):
        result = reconstruct(model, img, model.draw_cells(img, predict_all=True).mask)
    columns = draw_reconstruction(result, 0, model.data_preprocessor)
    shown = [columns[name] for name in ('original', 'masked', 'pasted', 'error')]
    return heading, np.concatenate(shown, axis=1)


def _describe(report: BiasReport, masks: int) -> str:
    """Say how to read the picture, and what was found first."""
    sizes = report.sizes
    return (
        f'Each dot compares the error on {format_count(sizes["user"], "image")} with that on '
        f'{format_count(sizes["reference"], "reference image")}, in hidden cells with a pattern, both relative to an '
        f'interpolation ({format_count(masks, "mask")} per image): above 1, the model knows the pattern less well. '
        'Thick lines are 95% intervals, thin lines are corrected for the number of patterns, and diamonds compare the '
        f'errors without the interpolation. {report.findings[0]}'
    )
