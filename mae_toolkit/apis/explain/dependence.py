"""Explain which visible cells the reconstruction of a hidden cell depends on."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from torch import Tensor

from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.sources import AutoencoderSource, add_most, choose_images, open_reconstructor
from mae_toolkit.apis.reconstruct import Reconstructor
from mae_toolkit.apis.reconstructed_image import ReconstructedImage
from mae_toolkit.argument_types import fraction, positive_int, seed_number
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.reading import Images
from mae_toolkit.evaluation.explanation.dependence import DRAWS, Dependence, find_mask, hide_cell, measure_dependence
from mae_toolkit.models.maskings import Masking
from mae_toolkit.printing import printable
from mae_toolkit.visualization.explanation.dependence import DependenceRow, draw_dependence
from mae_toolkit.visualization.reconstruction import draw_reconstruction, find_shown_objective, pad_to_unit, reconstruct

MOST = 3
LONGEST = 20  # characters of a name
CENTER = (0.5, 0.5)
COLUMNS = ('original', 'masked', 'pasted')  # of those that draw_reconstruction makes


def explain_dependence(
    source: AutoencoderSource,
    images: Images,
    *,
    places: Sequence[Sequence[float]] | None = None,
    ratio: float | None = None,
    masking: str | Mapping[str, Any] | Masking | None = None,
    seed: int = 0,
    short_side: int | None = None,
    draws: int = DRAWS,
    most: int = MOST,
    config: str | Path | Config | None = None,
    device: str | None = None,
) -> Explanation:
    """Show which visible cells the reconstruction of a hidden cell depends on, by gradients to the pixels.

    Example::

        explain_dependence('runs/photos', 'photos/1.jpg', places=[(0.25, 0.5), (0.75, 0.5)]).picture

    Args:
        source: Folder of a pretraining, checkpoint, masked autoencoder or reconstructor.
        images: A folder, files, arrays or pictures of Pillow.
        places: Row and column of each cell that is looked at, as shares of height and width; the center if None. A
            cell that the mask shows is hidden, in exchange for the hidden cell that is farthest away.
        ratio: Share of the cells that is hidden; as in the training if None.
        masking: Which cells are hidden; as in the training if None.
        seed: Seed of the masks and of the signs with which predicted values are summed.
        short_side: Pixels to which the shorter side of each image is resized; its own size if None.
        draws: Draws of these signs; the more, the more exact.
        most: Images that are used, evenly chosen if there are more.
        config: Config of the pretraining, if the source does not hold it.
        device: Device; a GPU if there is one.

    Returns:
        The explanation. Its numbers hold for each of ``cells`` the ``image``, the ``cell``, the ``distance`` in pixels
        to the visible cells weighted by their gradients, the same if all counted ``equally``, the share of the eight
        ``neighbors``, the ``gradient`` of every cell, and that of all ``hidden`` cells together, which is zero.

    Raises:
        UserError: If the source has no decoder or predicts no picture, a place lies outside, or no image can be read.
    """
    chosen = [CENTER] if places is None else places
    _check_places(chosen)
    options: dict[str, Any] = dict(ratio=ratio, masking=masking, seed=seed, short_side=short_side)
    reconstructor = open_reconstructor(source, device, config=config, **options)
    items, names, note = choose_images(images, most)
    rows, numbers = [], []
    for found in reconstructor(items):
        for place in chosen:
            row, one = _explain_cell(reconstructor, found, place, draws)
            rows.append(row)
            numbers.append({'image': names[found.index]} | one)
    title = 'What the reconstruction of a hidden cell depends on'
    near, mean, equal = (np.mean([one[name] for one in numbers]) for name in ('neighbors', 'distance', 'equally'))
    caption = (
        'How strongly the prediction in the outlined cell changes with the pixels of each visible cell; gray cells are '
        f'hidden. On average {near:.0%} of the gradient comes from the eight neighboring cells, and its mean distance '
        f'is {mean:.0f} pixels ({equal:.0f} if all visible cells counted equally).'
    )
    return Explanation(
        title, draw_dependence(rows, title), caption + note, {'cells': numbers}, dict(reconstructor.skipped)
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument(
        '--place',
        dest='places',
        action='append',
        type=fraction,
        nargs=2,
        metavar=('ROW', 'COLUMN'),
        help='of a cell, as shares of height and width; may be repeated; the center by default',
    )
    parser.add_argument('--ratio', type=float, help='share of the cells that is hidden; as in the training by default')
    parser.add_argument('--masking', help='masking in place of that of the training, such as BlockMasking')
    parser.add_argument('--seed', type=seed_number, default=0, help='seed of the masks')
    parser.add_argument('--short-side', type=positive_int, help='pixels to which the shorter side is resized')
    parser.add_argument('--draws', type=positive_int, default=DRAWS, help='of signs; the more, the more exact')
    parser.add_argument('--config', help='config of the pretraining, if the source does not hold it')
    add_most(parser, MOST)


def _check_places(places: Sequence[Sequence[float]]) -> None:
    wrong = [place for place in places if len(place) != 2 or not all(0 <= share <= 1 for share in place)]
    if wrong or not places:
        raise UserError(
            f'places={[tuple(place) for place in wrong]}: each is two shares from 0 to 1, from the top and the left.'
        )


def _explain_cell(
    reconstructor: Reconstructor, found: ReconstructedImage, place: Sequence[float], draws: int
) -> tuple[DependenceRow, dict[str, Any]]:
    """Measure one cell of one image: the row that shows it, and its numbers."""
    model = reconstructor.model
    device, unit = next(model.parameters()).device, model.masking.unit
    size = found.result.original.shape[-2:]
    imgs = pad_to_unit(found.result.original, unit).to(device)
    cell = tuple(min(int(share * n), n - 1) // unit for share, n in zip(place, size, strict=True))
    mask = hide_cell(find_mask(found.result.hidden, unit), (cell[0], cell[1])).to(device)
    objective = find_shown_objective(model)
    measured = measure_dependence(model, imgs, mask, (cell[0], cell[1]), objective, draws, reconstructor.seed)
    columns = _draw_columns(reconstructor, found, imgs, mask)
    gradient = np.where(measured.hidden, np.nan, measured.gradient / measured.gradient[~measured.hidden].mean())
    return DependenceRow(columns, gradient, measured.cell, unit, _shorten(found.name)), _count(measured)


def _draw_columns(
    reconstructor: Reconstructor, found: ReconstructedImage, imgs: Tensor, mask: Tensor
) -> dict[str, np.ndarray]:
    """Draw what the model saw and made of it with a mask."""
    height, width = found.result.original.shape[-2:]
    result = reconstruct(reconstructor.model, imgs, mask).apply(lambda x: x[..., :height, :width].cpu())
    drawn = draw_reconstruction(result, 0, found.preprocessor)
    return {name: drawn[name] for name in COLUMNS}


def _shorten(name: str) -> str:
    """Return the end of the name of an image that fits beside its row."""
    name = printable(Path(name).name)
    return name if len(name) <= LONGEST else f'…{name[-LONGEST:]}'


def _count(measured: Dependence) -> dict[str, Any]:
    return {
        'cell': list(measured.cell),
        'unit': measured.unit,
        'distance': round(measured.mean_distance(), 3),
        'equally': round(measured.mean_distance(equally=True), 3),
        'neighbors': round(measured.share_of_neighbors(), 4),
        'hidden': float(measured.gradient[measured.hidden].sum()),
        'gradient': [[float(f'{value:.5g}') for value in row] for row in measured.gradient],
    }
