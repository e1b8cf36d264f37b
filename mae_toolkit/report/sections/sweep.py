"""How the error grows with what is hidden."""

from __future__ import annotations

from typing import Any

from mae_toolkit.apis.explain import explain_reconstruction
from mae_toolkit.report.blocks import Block
from mae_toolkit.report.explained import show_explanation
from mae_toolkit.report.inputs import NotApplicable, ReportInputs
from mae_toolkit.report.section import Section
from mae_toolkit.visualization.reconstruction import explain_nothing_shown, find_shown_objective

MOST, SHOWN = 8, 2  # images that are measured, and that are drawn


def build(inputs: ReportInputs) -> list[Block]:
    """Reconstruct some images under several ratios of what is hidden."""
    if find_shown_objective(inputs.model) is None:
        raise NotApplicable(explain_nothing_shown(inputs.model))
    sample = inputs.sample(MOST)
    options: dict[str, Any] = dict(seed=inputs.seed, short_side=inputs.short_side, limits=inputs.source.limits)
    found = explain_reconstruction(inputs.model, sample.items, most=MOST, shown=SHOWN, **options)
    return show_explanation(
        found, 'reconstruction', sample.note, left_out=('images', 'seed', 'nested', 'unit_of_error')
    )


SECTION = Section('sweep', 'Reconstructions by ratio', build)
