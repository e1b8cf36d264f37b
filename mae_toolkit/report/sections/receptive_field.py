"""How far a position of the last map reaches."""

from __future__ import annotations

from mae_toolkit.apis.explain import explain_receptive_field
from mae_toolkit.report.blocks import Block
from mae_toolkit.report.explained import show_explanation
from mae_toolkit.report.inputs import ReportInputs
from mae_toolkit.report.section import Section

MOST = 16  # images


def build(inputs: ReportInputs) -> list[Block]:
    """Measure on which pixels the center of the last map depends."""
    sample = inputs.sample(MOST)
    found = explain_receptive_field(inputs.extractor, sample.items, most=MOST, seed=inputs.seed)
    return show_explanation(found, 'receptive-field', sample.note)


SECTION = Section('receptive-field', 'Receptive field', build)
