"""Reconstructions under a sweep of ratios, units and maskings."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from mae_toolkit.apis.explain.explanation import Explanation
from mae_toolkit.apis.explain.sources import AutoencoderSource, add_most, choose_images, open_reconstructor
from mae_toolkit.apis.reconstruct import Reconstructor
from mae_toolkit.apis.reconstructed_image import PreparedImage, ReconstructedImage, prepare_image
from mae_toolkit.argument_types import positive_int, seed_number
from mae_toolkit.datasets import BrokenImageError, ImageLimits, Resize
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.reading import Images, refuse_none_read
from mae_toolkit.evaluation.explanation.mask_sweep import MaskingConfig, build_masking, is_nested, name_masking
from mae_toolkit.models import MaskedAutoencoder
from mae_toolkit.printing import format_count
from mae_toolkit.spread import spread_indices
from mae_toolkit.visualization.explanation.reconstruction_sweep import (
    SweepRow,
    SweepTile,
    draw_reconstruction_sweep,
)

RATIOS = (0.5, 0.75, 0.9)
SHOWN, MOST = 2, 64


@dataclass
class _Setting:
    """One masking, unit and ratio of the sweep, and what came of it."""

    masking: str
    unit: int
    ratio: float
    reconstructor: Reconstructor | None
    left_out: str | None = None
    errors: dict[str, float] = field(default_factory=dict)
    shares: list[float] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)

    @property
    def row(self) -> str:
        """Return the name of its curve."""
        return f'{self.masking}, unit {self.unit}'

    def to_dict(self) -> dict[str, Any]:
        """Return plain values."""
        errors, plain = list(self.errors.values()), {'masking': self.masking, 'unit': self.unit, 'ratio': self.ratio}
        if not errors:
            return plain | {'left_out': self.left_out or next(iter(self.refused.values()))}
        return plain | {
            'hidden': float(np.mean(self.shares)),
            'error_mean': float(np.mean(errors)),
            'error_std': float(np.std(errors, ddof=1)) if len(errors) > 1 else None,
            'errors': dict(self.errors),
            'refused': dict(self.refused),
        }


def explain_reconstruction(
    source: AutoencoderSource,
    images: Images,
    *,
    ratios: Sequence[float] = RATIOS,
    units: Sequence[int] | None = None,
    maskings: Sequence[MaskingConfig] | None = None,
    seed: int = 0,
    most: int = MOST,
    shown: int = SHOWN,
    short_side: int | None = None,
    device: str | None = None,
    limits: ImageLimits | None = None,
) -> Explanation:
    """Reconstruct images under each of several ratios, mask units and maskings, and measure the error of each.

    Each image has its own seed, which is the same in the whole sweep. So a mask of RandomMasking hides all that the
    same masking hides at a lower ratio, and the error tells about the ratio rather than about luck; ``nested`` in the
    numbers says for which maskings this holds.

    Args:
        source: Folder of the run of a pretraining, a checkpoint, or a model that is loaded.
        images: A folder, a file, a pattern, an array (H, W) or (H, W, C), a picture of Pillow, or several of them.
        ratios: Shares of the cells that are hidden, between 0 and 1.
        units: Pixels per side of a cell, multiples of the model's; the model's if None. What the model cannot take is
            left out, with the reason in the picture.
        maskings: Names of classes such as ``'BlockMasking'``, or configs; the model's own if None.
        seed: Seed of the masks.
        most: Images whose errors are measured, evenly chosen if there are more.
        shown: Images that are drawn, evenly chosen from these.
        short_side: Pixels to which the shorter side of each image is resized; its own size if None.
        device: Device; a GPU if there is one.
        limits: Largest image that is decoded.

    Raises:
        UserError: If the model predicts no picture, there is no such masking, a ratio is out of its range, none of the
            units fits, or no image can be read.
    """
    model = open_reconstructor(source, device).model
    settings = list(_plan(model, ratios, units, maskings, limits))
    items, names, note = choose_images(images, most)
    drawn, nested, skipped = set(spread_indices(len(items), max(1, shown))), dict[str, list[bool]](), dict[str, str]()
    resize, rows = Resize(short_side) if short_side else None, list[SweepRow]()
    for index, item in enumerate(tqdm(items, 'reconstructing', unit='image', delay=1)):
        try:
            prepared = prepare_image(item, index, names[index], model, resize, limits or ImageLimits())
        except BrokenImageError as error:
            skipped[names[index]] = error.reason
            continue
        found = [_reconstruct(setting, prepared, seed) for setting in settings]
        _note_nested(settings, found, nested)
        if index in drawn:
            rows += _make_rows(settings, found, names[index], sorted(set(ratios)))
    if not any(setting.errors for setting in settings):
        _refuse(settings, skipped)
    read = len(items) - len(skipped)
    return Explanation(
        title='Reconstruction by ratio, unit and masking',
        picture=_draw(settings, rows, sorted(set(ratios)), read, seed),
        caption=_describe(read, nested) + note,
        numbers={
            'seed': seed,
            'images': read,
            'unit_of_error': 'mean absolute error over hidden pixels, in standard deviations of the training pixels',
            'settings': [setting.to_dict() for setting in settings],
            'nested': {name: all(held) for name, held in nested.items()},
        },
        skipped=skipped,
    )


def _plan(
    model: MaskedAutoencoder,
    ratios: Sequence[float],
    units: Sequence[int] | None,
    maskings: Sequence[MaskingConfig] | None,
    limits: ImageLimits | None,
) -> Iterator[_Setting]:
    """Yield each setting of the sweep; those of units that the model cannot take without a reconstructor."""
    own = model.masking.unit
    wanted = list(dict.fromkeys(units or [own]))
    if not ratios:
        raise UserError('No ratio is asked for.')
    if all(unit < own or unit % own for unit in wanted):
        raise UserError(
            f'The units {", ".join(map(str, wanted))} are no multiples of the {own} pixels of the cells that the '
            f'model was trained with: ask for {own}, {2 * own}, ...'
        )
    asked: Sequence[MaskingConfig | None] = maskings or [None]
    for masking in asked:
        name = name_masking(model, masking)
        for ratio in sorted(set(ratios)):  # a mistake in a name or an argument is refused before any work
            build_masking(model, masking, own, ratio)
        for unit in wanted:
            for ratio in sorted(set(ratios)):
                if unit < own or unit % own:
                    reason = f'Cells of {unit} pixels: the model was trained with {own}, and takes multiples of that.'
                    yield _Setting(name, unit, ratio, None, reason)
                else:
                    built = build_masking(model, masking, unit, ratio)
                    yield _Setting(name, unit, ratio, Reconstructor(model, masking=built, limits=limits))


def _reconstruct(setting: _Setting, prepared: PreparedImage, seed: int) -> ReconstructedImage | str:
    """Reconstruct an image, and note its error; the reason if the image is too small for such a mask."""
    if setting.reconstructor is None:
        return setting.left_out or ''
    pixels = prepared.pixels_of_file.permute(1, 2, 0).contiguous().numpy()
    setting.reconstructor.seed = seed + prepared.index
    try:
        found = next(setting.reconstructor.iterate([pixels], show_progress=False), None)
    except UserError as error:
        setting.refused[prepared.name] = str(error)
        return str(error)
    if found is None:
        setting.refused[prepared.name] = reason = next(iter(setting.reconstructor.skipped.values()))
        return reason
    setting.errors[prepared.name] = float(found.error[found.hidden].mean())
    setting.shares.append(float(found.hidden.mean()))
    return found


def _note_nested(
    settings: Sequence[_Setting], found: Sequence[ReconstructedImage | str], nested: dict[str, list[bool]]
) -> None:
    """Note for each masking and unit whether the masks of an image hide more and more."""
    masks: dict[str, list[np.ndarray]] = {}
    for setting, one in zip(settings, found, strict=True):
        if isinstance(one, ReconstructedImage):
            masks.setdefault(setting.row, []).append(one.hidden)
    for name, hidden in masks.items():
        nested.setdefault(name, []).append(is_nested(hidden))


def _make_rows(
    settings: Sequence[_Setting], found: Sequence[ReconstructedImage | str], name: str, ratios: Sequence[float]
) -> Iterator[SweepRow]:
    """Yield the rows of the picture for an image."""
    columns = [one.columns() if isinstance(one, ReconstructedImage) else None for one in found]
    original = next((one['original'] for one in columns if one is not None), None)
    if original is None:
        return
    for first in range(0, len(settings), len(ratios)):
        if settings[first].reconstructor is None:  # the title says why
            continue
        tiles: list[SweepTile | str] = []
        for place in range(first, first + len(ratios)):
            one, pictures = found[place], columns[place]
            if isinstance(one, str) or pictures is None:
                tiles.append(str(one))
            else:
                error, share = settings[place].errors[name], settings[place].shares[-1]
                tiles.append(SweepTile(pictures['masked'], pictures['pasted'], error, share))
        shown = '/'.join(Path(name).parts[-2:])  # not the folders of one's machine
        yield SweepRow(shown, original, settings[first].masking, settings[first].unit, tiles)


def _draw(settings: Sequence[_Setting], rows: Sequence[SweepRow], ratios: Sequence[float], read: int, seed: int) -> Any:
    curves: dict[str, list[tuple[float, float, float]]] = {}
    for setting in settings:
        points, numbers = curves.setdefault(setting.row, []), setting.to_dict()
        if 'error_mean' in numbers:
            points.append((setting.ratio, numbers['error_mean'], numbers['error_std'] or 0.0))
    title = (
        f'Reconstruction of what is hidden, by ratio, unit and masking (seed {seed}). Error: mean absolute error over '
        f'hidden pixels, in standard deviations of the training pixels. Curves: {format_count(read, "image")}.'
    )
    reasons = dict.fromkeys(f' Left out: {setting.left_out}' for setting in settings if setting.left_out)
    title += ''.join(reasons)
    return draw_reconstruction_sweep(rows, ratios, curves, title)


def _describe(read: int, nested: dict[str, list[bool]]) -> str:
    held = [name for name, values in nested.items() if all(values)]
    drawn = [name for name in nested if name not in held]
    text = f'Each image under each mask, and the error over {format_count(read, "image")}: lower is better.'
    if held:
        text += f' With {"; ".join(held)}, a higher ratio hides all that a lower one hides and more.'
    if drawn:
        text += f' With {"; ".join(drawn)}, each ratio has a mask of its own, so that places differ, too.'
    return text


def _refuse(settings: Sequence[_Setting], skipped: dict[str, str]) -> None:
    """Refuse to explain nothing."""
    if skipped:
        refuse_none_read(len(skipped), skipped)
    name, reason = next(iter(next(one.refused for one in settings if one.refused).items()))
    raise UserError(f'No image could be reconstructed under any mask; {name}: {reason}')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the sub-command."""
    parser.add_argument('--ratios', type=float, nargs='+', default=RATIOS, help='shares of the cells that are hidden')
    parser.add_argument('--units', type=positive_int, nargs='+', help="pixels of a cell; the model's by default")
    parser.add_argument('--maskings', nargs='+', help="names such as BlockMasking; the model's by default")
    parser.add_argument('--seed', type=seed_number, default=0, help='seed of the masks')
    parser.add_argument('--shown', type=positive_int, default=SHOWN, help=f'images that are drawn; {SHOWN} if more')
    parser.add_argument('--short-side', type=positive_int, help='pixels to which the shorter side of images is resized')
    add_most(parser, MOST)
