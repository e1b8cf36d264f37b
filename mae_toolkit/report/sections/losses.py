"""How the loss fell, and what validation measured meanwhile."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

from PIL import Image

from mae_toolkit.report.blocks import Block, Figure
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section
from mae_toolkit.visualization.curves import Series, draw_losses, draw_metrics, read_scalars

NO_RUN = 'No training has left run.json or logs beside the checkpoint: name its folder with --run.'


def build(inputs: ReportInputs) -> list[Block]:
    """Draw the losses of all starts of the run, and the metrics of its validation."""
    if inputs.run is None:
        raise NotApplicable(NO_RUN)
    series = read_scalars(inputs.run)
    curves = _draw(draw_losses, series)
    if curves is None:
        raise NotApplicable('The run has logged no loss yet.')
    blocks: list[Block] = [Figure(curves, 'Curves of the loss over the iterations', _describe_losses(series))]
    metrics = _draw(draw_metrics, series)
    if metrics is not None:
        caption = 'What validation measured: by name, over the iterations.'
        blocks.append(Figure(metrics, 'Curves of the metrics of the validation', caption))
    return blocks


def _describe_losses(series: Series) -> str:
    """Name the first and the last loss of training, and the last of validation."""
    said = ['Losses over the iterations, of all starts of the run together.']
    train = series.get('train/loss') or series.get('loss') or {}
    if train:
        first, last = min(train), max(train)
        said.append(f'Training: {train[first]:.4g} at iteration {first:,}, {train[last]:.4g} at {last:,}.')
    held_out = series.get('val/loss') or {}
    if held_out:
        last, best = max(held_out), min(held_out, key=held_out.__getitem__)
        said.append(
            f'Held-out images: {held_out[last]:.4g} at iteration {last:,}; {held_out[best]:.4g} at best, at {best:,}.'
        )
    else:
        said.append('No loss of held-out images was logged, so nothing shows whether the model only memorizes.')
    return ' '.join(said)


def _draw(draw: Callable[..., Any], series: Series) -> Image.Image | None:
    """Draw curves into a picture; None if there is nothing to draw."""
    buffer = io.BytesIO()
    return Image.open(buffer) if draw(series, buffer) else None


SECTION = Section('loss', 'Loss curve', build)
