"""Write the report on a model: build its sections one after the other, and write the page."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from tqdm import tqdm

from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output
from mae_toolkit.printing import printable
from mae_toolkit.registry import suggest
from mae_toolkit.report.inputs import NotApplicable, ReportInputs, ReportSource
from mae_toolkit.report.page import MARK, MEGABYTE, make_page
from mae_toolkit.report.section import BuiltSection, Section
from mae_toolkit.report.sections import SECTIONS

MOST_MEGABYTES = 10.0
SUFFIXES = ('.html', '.htm')


@dataclass(frozen=True)
class Report:
    """A report that was written.

    Attributes:
        path: The page.
        bytes: Its size.
        sections: Its sections.
        images: Images that were looked at.
        skipped: Reasons by name, of images that could not be read.
    """

    path: Path
    bytes: int
    sections: list[BuiltSection]
    images: int
    skipped: dict[str, str]

    @property
    def seconds(self) -> dict[str, float]:
        """Return how long each section took, by its name."""
        return {one.section.name: one.seconds for one in self.sections}


def write_report(
    source: ReportSource,
    out: str | Path,
    *,
    title: str | None = None,
    sections: Sequence[str] | None = None,
    most_megabytes: float = MOST_MEGABYTES,
    force: bool = False,
) -> Report:
    """Write a page about a model and what it makes of images: one HTML file that loads nothing from anywhere.

    Example::

        from mae_toolkit.report import ReportSource, write_report

        report = write_report(ReportSource('runs/photos/photos.py', 'runs/photos', 'photos/'), 'report.html')
        report.seconds  # by section

    Args:
        source: Config, checkpoint, images, and what else there is.
        out: The page; its name ends in ``.html``.
        title: Heading of the page; made of the names of config and checkpoint if None.
        sections: Names of the sections that are wanted, see :data:`~mae_toolkit.report.sections.SECTIONS`; all if None.
        most_megabytes: Size of the page at most, in millions of bytes; pictures are reduced until they fit.
        force: Replace a file that is there, whoever wrote it.

    Returns:
        What was written, and how long each section took.

    Raises:
        UserError: If the page would replace a file of another program, a section is unknown, there is no such config,
            checkpoint or image, the encoder of the checkpoint is another one than that of the config, or the page does
            not fit into its size. What a user does wrong in one section alone is a sentence in the page.
    """
    out, chosen = Path(out), choose_sections(sections)
    if out.suffix.lower() not in SUFFIXES:
        raise UserError(f'{printable(out)} must end in .html, as it is a page.')
    if most_megabytes <= 0:
        raise UserError(f'most_megabytes={most_megabytes} must be above 0.')
    read = [path for path in (source.config, source.checkpoint) if isinstance(path, str | Path)]
    check_output(out, force, read, is_own_page)
    inputs = ReportInputs(source)
    built = build_sections(chosen, inputs)
    name = printable(f'{Path(inputs.config_name).stem}, {inputs.checkpoint.name}')
    subtitle = f'What {inputs.encoder_name} has learned, looked at with {inputs.images.note}.'
    page = make_page(title or f'Report: {name}', subtitle, built, datetime.now(), round(most_megabytes * MEGABYTE))
    atomic_write(out, page)
    return Report(out, len(page), built, len(inputs.embeddings), dict(inputs.embeddings.skipped))


def choose_sections(names: Sequence[str] | None) -> list[Section]:
    """Return the sections of some names, in the order of the page.

    Raises:
        UserError: If there is no such section, or none is named.
    """
    if names is None:
        return list(SECTIONS)
    known = [section.name for section in SECTIONS]
    for name in names:
        if name not in known:
            raise UserError(f'There is no section {name!r}{suggest(name, known)}')
    if not names:
        raise UserError(f'No section is asked for: name some of {", ".join(known)}.')
    return [section for section in SECTIONS if section.name in names]


def build_sections(sections: Sequence[Section], inputs: ReportInputs) -> list[BuiltSection]:
    """Build sections, with a progress bar that names the seconds of each.

    Args:
        sections: The sections.
        inputs: What they read.

    Raises:
        UserError: If none of the images can be read.
        Exception: What fails in a section for another reason than a mistake of the user.
    """
    built = []
    with tqdm(total=len(sections) + 1, unit='section') as bar:
        begin = time.perf_counter()
        bar.set_description('reading and encoding images')
        count = len(inputs.embeddings)
        bar.update()
        bar.write(f'{time.perf_counter() - begin:7.1f} s  reading and encoding {count:,} images')
        for section in sections:
            bar.set_description(section.title.lower())
            built.append(build_section(section, inputs))
            bar.update()
            end = ' (not made)' if built[-1].mistake else ' (does not apply)' if built[-1].left_out else ''
            bar.write(f'{built[-1].seconds:7.1f} s  {section.title.lower()}{end}')
    return built


def build_section(section: Section, inputs: ReportInputs) -> BuiltSection:
    """Build a section, or note in a sentence why it is left out."""
    begin = time.perf_counter()
    blocks, left_out, mistake = [], '', ''
    try:
        blocks = section.build(inputs)
    except NotApplicable as reason:
        left_out = str(reason)
    except UserError as error:
        mistake = str(error)
    return BuiltSection(section, blocks, time.perf_counter() - begin, left_out, mistake)


def is_own_page(path: Path) -> bool:
    """Return whether :func:`write_report` wrote a file."""
    with open(path, 'rb') as file:
        return MARK.encode() in file.read(1000)
