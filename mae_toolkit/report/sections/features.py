"""What the features of the encoder are, as colors."""

from __future__ import annotations

from mae_toolkit.apis.explain import explain_components
from mae_toolkit.report.blocks import Block
from mae_toolkit.report.explained import show_explanation
from mae_toolkit.report.inputs import ReportInputs
from mae_toolkit.report.section import Section

MOST, SHOWN = 48, 5  # images on which colors are fitted, and that are drawn


def build(inputs: ReportInputs) -> list[Block]:
    """Color the positions of the features of some images by their main components."""
    sample = inputs.sample(MOST)
    found = explain_components(inputs.extractor, sample.items, most=MOST, shown=SHOWN)
    return show_explanation(found, 'components', sample.note, left_out=('components', 'encoder', 'images', 'fitted_on'))


SECTION = Section('features', 'Features as colors', build)
