"""Which visible cells the reconstruction of a hidden cell depends on."""

from __future__ import annotations

from mae_toolkit.apis.explain import explain_dependence
from mae_toolkit.report.blocks import Block
from mae_toolkit.report.explained import show_explanation
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section
from mae_toolkit.visualization.reconstruction import explain_nothing_shown, find_shown_objective

MOST = 3  # images


def build(inputs: ReportInputs) -> list[Block]:
    """Draw how strongly the center of some images depends on what is visible."""
    if find_shown_objective(inputs.model) is None:
        raise NotApplicable(explain_nothing_shown(inputs.model))
    sample = inputs.sample(MOST)
    found = explain_dependence(inputs.model, sample.items, seed=inputs.seed, short_side=inputs.short_side, most=MOST)
    return show_explanation(found, 'dependence', sample.note)


SECTION = Section('dependence', 'What a hidden cell depends on', build)
