"""Which patterns the model reconstructs worse in these images than in those of its training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mae_toolkit.apis.dataset_images import build_dataset
from mae_toolkit.apis.explain import explain_bias
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings.reading import list_items
from mae_toolkit.evaluation.reconstruction_bias.report import LEAST
from mae_toolkit.printing import format_count, printable
from mae_toolkit.report.blocks import Block, Bullets, Table, Text
from mae_toolkit.report.explained import show_explanation
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section
from mae_toolkit.spread import spread_indices

MOST, MASKS = 48, 2  # images of each set, and masks of each image
SHOWN = 8  # least familiar images that are named
LISTS = ('findings', 'notes', 'unknown', 'hard_for_anyone', 'bins', 'images')  # long ones, or what the sentences say


class ReferenceImages(NamedTuple):
    """Images with which those of the report are compared.

    Attributes:
        images: The images.
        held_out: Images like them on which the model was not trained; None if there are none.
        note: What they are.
    """

    images: Sequence[Any]
    held_out: Sequence[Any] | None
    note: str


def build(inputs: ReportInputs) -> list[Block]:
    """Compare the errors of the reconstructions with those on reference images."""
    model, reference = inputs.model, find_reference(inputs)
    sample = inputs.sample(MOST)
    options: dict[str, Any] = dict(
        held_out=reference.held_out, most=MOST, masks=MASKS, seed=inputs.seed, transform=inputs.transform
    )
    found = explain_bias(model, sample.items, reference.images, **options)
    numbers = found.numbers
    blocks: list[Block] = [Text(f'Compared with {reference.note}.'), Bullets(numbers['findings'])]
    blocks += show_explanation(found, 'bias', sample.note, left_out=LISTS)
    names = dict(zip(map(str, sample.items), sample.names, strict=True))
    return [*blocks, _list_images(numbers['images'], names)]


def find_reference(inputs: ReportInputs) -> ReferenceImages:
    """Find the images to compare with: those that the user names, or else those of the training.

    Raises:
        NotApplicable: If nobody names any, and those of the training are not here.
        UserError: If those that the user names are not there.
    """
    given = inputs.source.reference
    if given is not None:
        items, _ = list_items(given)
        return ReferenceImages(items, None, f'{format_count(len(items), "image")} of --reference')
    trained = list_dataset_images(inputs, 'train')
    if not trained:
        raise NotApplicable(
            'There is nothing to compare with, as the images of the training are not in files here: name some with '
            '--reference.'
        )
    held_out = list_dataset_images(inputs, 'val')
    note = f'{format_count(len(trained), "image")} of the training'
    if len(held_out) < LEAST:
        return ReferenceImages(trained, None, note)
    return ReferenceImages(trained, held_out, f'{note} and {format_count(len(held_out), "held-out image")}')


def list_dataset_images(inputs: ReportInputs, split: str) -> list[Path]:
    """List files of a dataset of the config, evenly chosen; none if they are not here, or not in files."""
    loader = inputs.cfg.get(f'{split}_dataloader')
    if loader is None:
        return []
    try:
        dataset = build_dataset(inputs.cfg, loader.dataset)
    except UserError:  # no such folder on this machine
        return []
    if not hasattr(dataset, 'names') or not hasattr(dataset, 'root'):  # shards
        return []
    return [dataset.root / dataset.names[index] for index in spread_indices(len(dataset.names), MOST)]


def _list_images(ranked: Sequence[dict[str, Any]], names: Mapping[str, str]) -> Table:
    """Make the table of the images that are least like those of the training."""
    rows = [
        (
            printable(names.get(one['name'], one['name'])),
            f'{one["relative_error"]:.2f}',
            f'{one["error"]:.3f}',
            f'{one["percentile"]:.0f}',
        )
        for one in ranked[:SHOWN]
    ]
    columns = ('image', 'error per that of an interpolation', 'error', 'percentile in the reference')
    return Table('Images that are least like what was learned', columns, rows)


SECTION = Section('bias', 'Bias of the reconstructions', build)
