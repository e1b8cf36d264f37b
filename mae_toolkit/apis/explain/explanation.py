"""What an explanation is: a picture, a sentence on how to read it, and its numbers."""

from __future__ import annotations

import io
import json
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import (
    WRITTEN_BY,
    check_output,
    check_picture_name,
    is_own_picture,
    weights_mark,
    write_picture,
)

TOOL = 'explain'


@dataclass(frozen=True, eq=False)
class Explanation:
    """A picture of what a network has learned, and the numbers in it. A notebook shows the picture.

    Attributes:
        title: What is explained, in a few words.
        picture: The picture.
        caption: One or two sentences: what is shown, and how to read it.
        numbers: What was measured, as plain values that JSON can hold.
        skipped: Reasons by name, of the images that could not be read.
    """

    title: str
    picture: Image.Image = field(repr=False)
    caption: str
    numbers: dict[str, Any] = field(repr=False)
    skipped: dict[str, str] = field(default_factory=dict, repr=False)

    def write(self, out: str | Path, force: bool = False) -> None:
        """Write the picture, and everything else into a JSON file of the same name beside it.

        Args:
            out: File ending in .png.
            force: Replace files that this method did not write.

        Raises:
            UserError: If the name does not end in .png, or a file of another program is there.
        """
        check_explanation_files(out, force)
        plain = {'title': self.title, 'caption': self.caption, 'numbers': self.numbers, 'skipped': self.skipped}
        text = json.dumps(weights_mark(TOOL) | plain, indent=1, allow_nan=False)
        write_picture(out, self.picture, TOOL)
        atomic_write(Path(out).with_suffix('.json'), text + '\n')

    def _repr_png_(self) -> bytes:
        """Return the picture as a notebook shows it."""
        buffer = io.BytesIO()
        self.picture.save(buffer, 'PNG')
        return buffer.getvalue()


def check_explanation_files(out: str | Path, force: bool = False, inputs: Iterable[str | Path | None] = ()) -> None:
    """Refuse the name of an explanation before any work is done.

    Args:
        out: File for the picture.
        force: Replace files that :meth:`Explanation.write` did not write.
        inputs: Files that are read, which are never replaced.

    Raises:
        UserError: If the name does not end in .png, or the picture or the JSON file beside it would replace something.
    """
    out = Path(out)
    check_picture_name(out)
    inputs = list(inputs)
    check_output(out, force, inputs, lambda path: is_own_picture(path, TOOL))
    check_output(out.with_suffix('.json'), force, inputs, _is_own_json)


def _is_own_json(path: Path) -> bool:
    with open(path, 'rb') as file:
        return f'"{WRITTEN_BY}": "{weights_mark(TOOL)[WRITTEN_BY]}"'.encode() in file.read(200)
