"""The sections of a report, in the order of the page: a new one is a file here and a line below."""

from mae_toolkit.report.section import Section
from mae_toolkit.report.sections import (
    attention,
    bias,
    cka,
    config,
    dependence,
    embedding_map,
    evaluation,
    features,
    files,
    losses,
    model,
    receptive_field,
    reconstructions,
    run,
    sweep,
)

SECTIONS: tuple[Section, ...] = (
    model.SECTION,
    losses.SECTION,
    run.SECTION,
    evaluation.SECTION,
    reconstructions.SECTION,
    sweep.SECTION,
    dependence.SECTION,
    features.SECTION,
    attention.SECTION,
    receptive_field.SECTION,
    cka.SECTION,
    embedding_map.SECTION,
    bias.SECTION,
    config.SECTION,
    files.SECTION,
)
