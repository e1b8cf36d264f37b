"""Put pictures side by side, with a heading per column."""

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

GAP = 6
PIXELS = 1 << 22  # that are converted at once
BACKGROUND = (255, 255, 255)


def to_rgb(image: np.ndarray, low: np.ndarray, high: np.ndarray) -> np.ndarray:
    """Convert an image of any channels to a picture.

    One channel becomes gray, two become red and green; of more than three, the first three are shown.

    Args:
        image: (C, H, W) of any type.
        low: (C, 1, 1), the values that become 0.
        high: (C, 1, 1), the values that become 255.

    Returns:
        (H, W, 3) uint8.
    """
    image = np.asarray(image)[:3]
    low, high = np.asarray(low)[:3], np.asarray(high)[:3]
    picture = np.zeros((*image.shape[1:], 3), np.uint8)
    filled = 3 if len(image) == 1 else len(image)  # one channel fills all three
    if image.dtype == np.uint8 and (low == 0).all() and (high == 255).all():
        picture[..., :filled] = image.transpose(1, 2, 0)
        return picture
    step = max(1, PIXELS // max(1, image.shape[2]))
    for top in range(0, image.shape[1], step):  # so that a large image takes no more memory in float64 than a small one
        scaled = (image[:, top : top + step].astype(np.float64) - low) / np.maximum(high - low, 1e-12)
        scaled = (np.nan_to_num(scaled).clip(0, 1) * 255).round().astype(np.uint8)
        picture[top : top + step, :, :filled] = scaled.transpose(1, 2, 0)
    return picture


def make_picture_grid(
    rows: Sequence[Sequence[np.ndarray]],
    headings: Sequence[str],
    side: int | None = None,
    font_size: int | None = None,
) -> Image.Image:
    """Make one picture of many.

    Args:
        rows: Pictures (H, W, 3) uint8; those of a row have one size.
        headings: One per column; long ones are wrapped at spaces.
        side: Pixels of the longer side of each picture; if None, pictures keep their size.
        font_size: Of the headings; if None, what goes with the width of the columns.
    """
    tiles = [[resize(picture, side) for picture in row] for row in rows]
    widths = [max(row[i].width for row in tiles) for i in range(len(headings))]
    texts = [_wrap(text, width, font_size or _font_size([width])) for text, width in zip(headings, widths, strict=True)]
    font = load_font(font_size or _font_size(widths))
    top = max(text.count('\n') + 1 for text in texts) * int(font.size * 1.4) + GAP
    height = top + sum(row[0].height + GAP for row in tiles)
    sheet = Image.new('RGB', (sum(widths) + GAP * (len(widths) + 1), height), BACKGROUND)
    draw = ImageDraw.Draw(sheet)
    x = GAP
    for column, (width, text) in enumerate(zip(widths, texts, strict=True)):
        draw.multiline_text((x + width / 2, GAP / 2), text, fill=(0, 0, 0), font=font, anchor='ma', align='center')
        y = top
        for row in tiles:
            sheet.paste(row[column], (x + (width - row[column].width) // 2, y))
            y += row[column].height + GAP
        x += width + GAP
    return sheet


def load_font(size: int) -> ImageFont.FreeTypeFont:
    """Load Pillow's own font, which is scalable as Pillow has FreeType."""
    font = ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)
    return font


def _font_size(widths: Sequence[int]) -> int:
    return max(8, min(14, min(widths) // 10))


def _wrap(text: str, width: int, font_size: int) -> str:
    """Break a text at spaces so that its lines in a font of that size about fit a column of so many pixels."""
    most = max(8, int(width / (font_size * 0.55)))
    lines = ['']
    for word in text.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > most:
            lines.append('')
        lines[-1] = f'{lines[-1]} {word}'.strip()
    return '\n'.join(lines)


def resize(picture: np.ndarray, side: int | None) -> Image.Image:
    """Resize a picture so that its longer side has so many pixels.

    It is enlarged without smoothing, so that its pixels can be seen, and reduced with it.

    Args:
        picture: (H, W, 3) uint8.
        side: Pixels; if None, the picture keeps its size.
    """
    image = Image.fromarray(picture)
    if side is None:
        return image
    scale = side / max(image.size)
    width, height = (max(1, round(n * scale)) for n in image.size)
    return image.resize((width, height), Image.Resampling.NEAREST if scale > 1 else Image.Resampling.BOX)
