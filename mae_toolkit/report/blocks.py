"""What a section of a report consists of: paragraphs, pictures, tables and listings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import ClassVar

from PIL import Image


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str
    kind: ClassVar[str] = 'text'


@dataclass(frozen=True)
class Bullets:
    """Sentences, each with a bullet."""

    sentences: Sequence[str]
    kind: ClassVar[str] = 'bullets'


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        picture: The picture.
        alt: What it shows, for those who do not see it.
        caption: What it shows, and how to read it.
    """

    picture: Image.Image = field(repr=False)
    alt: str
    caption: str
    kind: ClassVar[str] = 'figure'


@dataclass(frozen=True)
class Table:
    """A table; the first cell of each row is the heading of the row.

    Attributes:
        caption: What the table holds.
        columns: Headings of the columns; () for a table of names and values.
        rows: Its cells.
        note: A sentence below it.
    """

    caption: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ''
    kind: ClassVar[str] = 'table'


@dataclass(frozen=True)
class Listing:
    """A text whose lines and spaces are kept, such as a config.

    Attributes:
        label: What it is.
        text: The text.
    """

    label: str
    text: str
    kind: ClassVar[str] = 'listing'


Block = Text | Bullets | Figure | Table | Listing
