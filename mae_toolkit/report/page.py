"""Put the sections of a report into one HTML page, which loads nothing."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from itertools import count

from jinja2 import Environment, PackageLoader, StrictUndefined

from mae_toolkit import __version__
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count
from mae_toolkit.report.blocks import Figure
from mae_toolkit.report.pictures import EncodedPicture, fit_pictures
from mae_toolkit.report.section import BuiltSection

MARK = '<meta name="generator" content="mae_toolkit report">'  # by which a report of ours is known
MEGABYTE = 1_000_000
WIDE = 600  # pixels of width from which on a picture is not shrunk to a phone, but can be moved


def make_page(title: str, subtitle: str, sections: Sequence[BuiltSection], when: datetime, most_bytes: int) -> bytes:
    """Make the page of a report, with all pictures in it.

    Args:
        title: Its heading.
        subtitle: What is below it.
        sections: Its sections.
        when: When it was made.
        most_bytes: Bytes that it may have; pictures are reduced until they fit.

    Raises:
        UserError: If the texts alone take more, or the pictures do when they are reduced as far as may be.
    """
    figures = [block for one in sections for block in one.blocks if isinstance(block, Figure)]
    about = dict(title=title, subtitle=subtitle, sections=sections, when=when, version=__version__, mark=MARK)
    longest = 'Reduced from 100000 x 100000 to 100000 x 100000 pixels to fit the page.'
    empty = _render(about, [None] * len(figures), [longest] * len(figures))
    if len(empty) >= most_bytes:
        raise UserError(
            f'The texts of the report take {len(empty):,} bytes, and it may have {most_bytes:,}: allow more, or choose '
            'fewer sections.'
        )
    encoded = fit_pictures([figure.picture for figure in figures], most_bytes - len(empty))
    return _render(about, encoded, [one.note for one in encoded])


def _render(about: dict[str, object], encoded: Sequence[EncodedPicture | None], notes: Sequence[str]) -> bytes:
    """Render the template; without pictures, their addresses are left empty."""
    environment = Environment(
        loader=PackageLoader('mae_toolkit.report', 'templates'),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters['count'] = format_count
    pictures, numbers = iter(zip(encoded, notes, strict=True)), count(1)
    text = environment.get_template('report.html').render(
        **about,
        next_picture=lambda: next(pictures),
        next_number=lambda: next(numbers),
        wide=WIDE,
        reduced=sum(1 for note in notes if note),
    )
    return text.encode('utf-8', 'backslashreplace')  # names of files may hold bytes that are not UTF-8
