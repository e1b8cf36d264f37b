"""Encode pictures for a page so that all of them together stay within a number of bytes."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, replace

from PIL import Image

from mae_toolkit.errors import UserError

# Longest side in pixels and quality of JPEG and WebP: the first where there is room, the later ones where there is not.
STEPS = ((2400, 90), (1600, 85), (1200, 75), (900, 65), (640, 50))


@dataclass(frozen=True)
class EncodedPicture:
    """A picture as it stands in a page.

    Attributes:
        content: The file.
        type: Its media type, such as ``'image/webp'``.
        size: Width and height in pixels.
        step: Number of the step of :data:`STEPS` with which it was encoded.
        original: Width and height before.
        quality: Of JPEG or WebP, up to 100; None where nothing is lost.
    """

    content: bytes
    type: str
    size: tuple[int, int]
    step: int
    original: tuple[int, int]
    quality: int | None

    @property
    def uri(self) -> str:
        """Return the picture as a ``data:`` address."""
        return f'data:{self.type};base64,{base64.b64encode(self.content).decode()}'

    @property
    def length(self) -> int:
        """Return the bytes that it takes in a page."""
        return 4 * -(-len(self.content) // 3)

    @property
    def note(self) -> str:
        """Say by how much the picture was reduced; empty where it was not."""
        (width, height), (old_width, old_height) = self.size, self.original
        if self.size != self.original:
            return f'Reduced from {old_width} x {old_height} to {width} x {height} pixels to fit the page.'
        is_coarse = self.quality is not None and self.quality < STEPS[0][1]
        return f'Compressed to a quality of {self.quality} of 100 to fit the page.' if is_coarse else ''


def encode_picture(picture: Image.Image, step: int = 0) -> EncodedPicture:
    """Encode a picture in whatever format takes the fewest bytes: PNG, lossless WebP, WebP or JPEG.

    Args:
        picture: The picture.
        step: Number of the step of :data:`STEPS`, which gives the longest side and the quality.
    """
    side, quality = STEPS[step]
    shown = picture.convert('RGB')
    if max(shown.size) > side:
        scale = side / max(shown.size)
        width, height = (max(1, round(length * scale)) for length in shown.size)
        shown = shown.resize((width, height), Image.Resampling.LANCZOS)
    choices: list[tuple[str, int | None, dict[str, object]]] = [
        ('png', None, {}),
        ('webp', None, {'lossless': True, 'method': 2}),
        ('webp', quality, {'quality': quality}),
        ('jpeg', quality, {'quality': quality, 'subsampling': 0}),  # optimize=True fails on noise
    ]
    found: list[tuple[bytes, str, int | None]] = []
    for name, kept, options in choices:
        buffer = io.BytesIO()
        shown.save(buffer, name, **options)
        found.append((buffer.getvalue(), f'image/{name}', kept))
    content, kind, kept = min(found, key=lambda one: len(one[0]))
    return EncodedPicture(content, kind, shown.size, step, picture.size, kept)


def fit_pictures(pictures: Sequence[Image.Image], most: int) -> list[EncodedPicture]:
    """Encode pictures, and reduce the largest ones until all of them take no more than so many bytes in a page.

    Args:
        pictures: The pictures.
        most: Bytes for all of them together.

    Raises:
        UserError: If the smallest size of all of them is too large.
    """
    encoded = [encode_picture(picture) for picture in pictures]
    while (total := sum(one.length for one in encoded)) > most:
        places = [place for place, one in enumerate(encoded) if one.step + 1 < len(STEPS)]
        if not places:
            raise UserError(
                f'The pictures of the report take {total:,} bytes, however small they are made, and {most:,} are left '
                'for them: allow more, or choose fewer sections.'
            )
        place = max(places, key=lambda place: encoded[place].length)
        smaller = encode_picture(pictures[place], encoded[place].step + 1)
        # A picture that the next step does not make smaller is taken further by the one behind it.
        is_smaller = smaller.length < encoded[place].length
        encoded[place] = smaller if is_smaller else replace(encoded[place], step=smaller.step)
    return encoded
