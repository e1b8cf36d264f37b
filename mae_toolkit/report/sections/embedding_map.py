"""All images on a plane, similar ones near each other."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mae_toolkit.apis.explain import explain_map
from mae_toolkit.datasets.labels.classes import read_classes
from mae_toolkit.errors import UserError
from mae_toolkit.report.blocks import Block
from mae_toolkit.report.explained import show_explanation
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section

FEW = 5  # images, with which a map says nothing


def build(inputs: ReportInputs) -> list[Block]:
    """Map the vectors of all images, and color them by label where there are labels, or else by cluster."""
    images = inputs.images
    if len(images.items) < FEW:
        raise NotApplicable(f'A map takes {FEW} images or more, and there are {len(images.items)}.')
    labels = find_labels(inputs)
    color = 'cluster' if labels is None else 'label'
    found = explain_map(inputs.embeddings, images.items, color=color, labels=labels, seed=inputs.seed)
    return show_explanation(found, 'map', images.note, left_out=('points',))


def find_labels(inputs: ReportInputs) -> list[str] | None:
    """Return the class of each image, if the labeled images or class folders have all of them."""
    for place in _list_places(inputs):
        try:
            found = read_classes(*place).look_up(inputs.images.items)
        except UserError:  # no class folders, or labels of another kind
            continue
        known = [name for name in found if name is not None]
        if len(known) == len(found) and len(set(known)) > 1:
            return known
    return None


def _list_places(inputs: ReportInputs) -> Iterator[tuple[Path, Path | None]]:
    """Yield where labels may be: where they are said to be, and the folder of the images."""
    if inputs.source.labels is not None:
        images = inputs.source.label_images
        yield Path(inputs.source.labels), None if images is None else Path(images)
    given = inputs.source.images
    only = given[0] if isinstance(given, list | tuple) and len(given) == 1 else given
    if isinstance(only, str | Path) and Path(only).is_dir():
        yield Path(only), None


SECTION = Section('map', 'Map of the images', build)
