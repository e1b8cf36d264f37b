"""Where the heads of the attention look, and how far."""

from __future__ import annotations

from mae_toolkit.apis.explain import explain_attention, explain_attention_distance
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.explanation.attention import check_attention
from mae_toolkit.report.blocks import Block
from mae_toolkit.report.explained import show_explanation
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section

SHOWN, MEASURED = 2, 16  # images whose attention is drawn, and whose distances are measured


def build(inputs: ReportInputs) -> list[Block]:
    """Draw the attention of some blocks, and the distance of all."""
    try:
        check_attention(inputs.extractor.encoder)
    except UserError as reason:
        raise NotApplicable(str(reason)) from None
    shown, measured = inputs.sample(SHOWN), inputs.sample(MEASURED)
    maps = explain_attention(inputs.extractor, shown.items, most=SHOWN)
    distances = explain_attention_distance(inputs.extractor, measured.items, most=MEASURED)
    return [
        *show_explanation(maps, 'attention', shown.note, left_out=('maps',)),
        *show_explanation(distances, 'attention-distance', measured.note, left_out=('images',)),
    ]


SECTION = Section('attention', 'Attention', build)
