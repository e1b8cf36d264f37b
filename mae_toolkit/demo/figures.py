"""Pictures with captions as HTML: they hold their pixels, so that nothing is left in files."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from html import escape
from typing import NamedTuple

import numpy as np
from matplotlib import colormaps
from PIL import Image

PNG_PIXELS = 1 << 18  # larger pictures are sent as JPEG
QUALITY = 90
LONGEST = 1024  # pixels of the longer side of a picture that is sent
STEPS = 9  # colors of a color bar


class Figure(NamedTuple):
    """A picture with a caption.

    Attributes:
        picture: (H, W, 3) uint8, or a picture of Pillow.
        caption: One line.
        about: Description for those who cannot see it; the caption if empty.
    """

    picture: np.ndarray | Image.Image
    caption: str
    about: str = ''


def write_figures(figures: Sequence[Figure], kind: str = '') -> str:
    """Write pictures side by side, as many as fit, as HTML.

    Args:
        figures: The pictures.
        kind: Class of the style sheet, such as ``'wide'``.
    """
    parts = [
        f'<figure><img src="{_encode(one.picture)}" alt="{escape(one.about or one.caption)}">'
        f'<figcaption>{escape(one.caption)}</figcaption></figure>'
        for one in figures
    ]
    return f'<div class="figures {escape(kind)}">{"".join(parts)}</div>'


def write_color_bar(name: str, low: str, high: str, unit: str) -> str:
    """Write the colors of a colormap of matplotlib from low to high, with both values and what they mean, as HTML."""
    stops = [colormaps[name](i / (STEPS - 1))[:3] for i in range(STEPS)]
    colors = ', '.join('#' + ''.join(f'{round(value * 255):02x}' for value in stop) for stop in stops)
    return (
        f'<p class="colorbar"><span>{escape(low)}</span><span class="colors" style="background: '
        f'linear-gradient(to right, {colors})"></span><span>{escape(high)}</span> <span>{escape(unit)}</span></p>'
    )


def write_numbers(numbers: Sequence[tuple[str, str]]) -> str:
    """Write numbers, each with what it is, as HTML."""
    parts = [f'<div><dt>{escape(label)}</dt><dd>{escape(value)}</dd></div>' for label, value in numbers]
    return f'<dl class="numbers">{"".join(parts)}</dl>'


def write_text(text: str) -> str:
    """Write a paragraph as HTML."""
    return f'<p>{escape(text)}</p>'


def write_problem(text: str) -> str:
    """Write why something cannot be shown, as HTML that is read out at once."""
    return f'<p class="problem" role="alert">{escape(text)}</p>'


def _encode(picture: np.ndarray | Image.Image) -> str:
    """Write a picture as the address of an image that holds its content."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    if max(image.size) > LONGEST:
        image = image.copy()
        image.thumbnail((LONGEST, LONGEST))
    kind, file = 'png' if image.width * image.height <= PNG_PIXELS else 'jpeg', io.BytesIO()
    image.convert('RGB').save(file, kind, quality=QUALITY)
    return f'data:image/{kind};base64,{base64.b64encode(file.getvalue()).decode()}'
