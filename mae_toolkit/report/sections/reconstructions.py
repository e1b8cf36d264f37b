"""What the model makes of the hidden part of images."""

from __future__ import annotations

import numpy as np

from mae_toolkit.apis.reconstruct import Reconstructor
from mae_toolkit.apis.reconstructed_image import ReconstructedImage
from mae_toolkit.printing import printable
from mae_toolkit.report.blocks import Block, Figure, Table
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section
from mae_toolkit.visualization.grid import make_picture_grid
from mae_toolkit.visualization.reconstruction import explain_nothing_shown, find_shown_objective

MEASURED, SHOWN = 64, 6  # images
SIDE = 200  # pixels of the longer side of each picture
NAMED = 3  # of the images with the least and with the largest errors


def build(inputs: ReportInputs) -> list[Block]:
    """Reconstruct some images, draw the first few, and measure the error of all of them."""
    if find_shown_objective(inputs.model) is None:
        raise NotApplicable(explain_nothing_shown(inputs.model))
    sample = inputs.sample(MEASURED)
    short_side, limits = inputs.short_side, inputs.source.limits
    reconstructor = Reconstructor(inputs.model, seed=inputs.seed, short_side=short_side, limits=limits)
    found = reconstructor(sample.items, show_progress=False)
    step = max(1, len(found) // SHOWN)
    columns = [one.columns() for one in found[::step][:SHOWN]]
    grid = make_picture_grid([list(row.values()) for row in columns], list(columns[0]), SIDE)
    caption = (
        'Each row: an image, what the model saw of it, what it predicted, both together, and the mean absolute error '
        'over channels, from black (0) to bright (2 or more), in standard deviations of the pixels of the training. '
        f'The shorter side of the images has {short_side} pixels. Masks follow from the seed {inputs.seed}.'
    )
    figure = Figure(grid, 'Images, masked images, predictions and errors', caption)
    return [figure, _measure(found, sample.names, sample.note)]


def _measure(found: list[ReconstructedImage], names: list[str], note: str) -> Table:
    """Make the table of the mean error where images were hidden."""
    errors = np.array([one.error[one.hidden].mean() for one in found])
    order = np.argsort(errors, kind='stable')
    low, middle, high = np.quantile(errors, (0.1, 0.5, 0.9))
    rows = [
        ('mean', f'{errors.mean():.3f}', ''),
        ('middle', f'{middle:.3f}', f'a tenth is below {low:.3f}, a tenth above {high:.3f}'),
        *(('largest', f'{errors[row]:.3f}', printable(names[found[row].index])) for row in order[::-1][:NAMED]),
        *(('least', f'{errors[row]:.3f}', printable(names[found[row].index])) for row in order[:NAMED]),
    ]
    caption = f'Mean absolute error where hidden, in standard deviations, of {note}'
    return Table(caption, ('', 'error', 'image'), rows)


SECTION = Section('reconstructions', 'Reconstructions', build)
