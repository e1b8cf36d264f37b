"""The sections of a report, in the order of the page: a new one is a file here and a line below."""

from mae_toolkit.report.section import Section
from mae_toolkit.report.sections import (
    config,
    evaluation,
    features,
    files,
    losses,
    model,
    receptive_field,
    reconstructions,
    run,
)

SECTIONS: tuple[Section, ...] = (
    model.SECTION,
    losses.SECTION,
    run.SECTION,
    evaluation.SECTION,
    reconstructions.SECTION,
    features.SECTION,
    receptive_field.SECTION,
    config.SECTION,
    files.SECTION,
)
