"""What all sections of a report have in common."""

from collections.abc import Callable
from dataclasses import dataclass

from mae_toolkit.report.blocks import Block
from mae_toolkit.report.inputs import ReportInputs


@dataclass(frozen=True)
class Section:
    """A section of a report.

    Attributes:
        name: Its place in the page, and its name on the command line: small letters and hyphens.
        title: Its heading.
        build: Makes its content. It raises :class:`~mae_toolkit.report.inputs.NotApplicable` where there is nothing to
            show of this model, and a :class:`~mae_toolkit.errors.UserError` for a mistake of the user; the page gives
            the sentence of either, and goes on. Any other error ends the report.
    """

    name: str
    title: str
    build: Callable[[ReportInputs], list[Block]]


@dataclass(frozen=True)
class BuiltSection:
    """A section with its content.

    Attributes:
        section: The section.
        blocks: Its content; empty where it was left out.
        seconds: How long it took.
        left_out: Why there is nothing to show of this model, in a sentence; empty if there is.
        mistake: What the user can mend, in a sentence; empty if nothing was wrong.
    """

    section: Section
    blocks: list[Block]
    seconds: float
    left_out: str = ''
    mistake: str = ''
