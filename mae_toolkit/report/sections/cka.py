"""How alike the layers of the encoder are, among themselves or to those of another one."""

from __future__ import annotations

from mae_toolkit.apis.explain import explain_cka
from mae_toolkit.evaluation.explanation.cka import FEWEST
from mae_toolkit.report.blocks import Block
from mae_toolkit.report.explained import show_explanation
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section

MOST = 64  # images


def build(inputs: ReportInputs) -> list[Block]:
    """Compare the layers with those of the other checkpoint, or with each other if there is none."""
    sample = inputs.sample(MOST)
    if len(sample.items) < FEWEST:
        raise NotApplicable(f'It takes {FEWEST} images or more, and there are {len(sample.items)}.')
    found = explain_cka(inputs.extractor, sample.items, other=inputs.source.other, most=MOST, device=inputs.device)
    return show_explanation(found, 'cka', sample.note, left_out=tuple(found.numbers))


SECTION = Section('cka', 'Similarity of layers (CKA)', build)
