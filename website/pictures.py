"""The two drawings of docs/design.md: how data flows, and how each encoder skips what is hidden.

``python -m website.pictures`` writes them. They have a light ground of their own, so that they can be read in the dark.
"""

from website.symbols import ROOT

INK, SOFT, PAPER, HIDDEN = '#1b2a30', '#4a5a61', '#ffffff', '#e3e7e9'
COLORS = ('#0b7285', '#d9730d', '#5f3dc4', '#2b8a3e', '#c2255c', '#1864ab')
VISIBLE = ((0, 0), (0, 1), (1, 3), (2, 0), (2, 3), (3, 2))  # rows and columns of a grid of 4 x 4 cells
Parts = list[str]


def text(x: float, y: float, words: str, size: int = 20, weight: str = 'normal', fill: str = INK) -> str:
    """Write one line."""
    return f'<text x="{x}" y="{y}" font-size="{size}" font-weight="{weight}" fill="{fill}">{words}</text>'


def box(
    x: float, y: float, w: float, h: float, fill: str, stroke: str = 'none', radius: float = 8, more: str = ''
) -> str:
    """Draw a rectangle."""
    look = f'fill="{fill}" stroke="{stroke}"'
    return f'<rect x="{x:g}" y="{y:g}" width="{w:g}" height="{h:g}" rx="{radius:g}" {look} {more}/>'


def arrow(points: str) -> str:
    """Draw a line with a head through points such as '10,20 10,40'."""
    return f'<polyline points="{points}" fill="none" stroke="{SOFT}" stroke-width="2.5" marker-end="url(#head)"/>'


def cell(x: float, y: float, side: float, fill: str | None, units: bool = False) -> Parts:
    """Draw a cell: of a color, or hidden; ``units`` draws its four tokens."""
    if fill is None:
        return [box(x, y, side, side, HIDDEN, '#b3bdc2', 2, 'stroke-dasharray="3 2"')]
    drawn = [box(x, y, side, side, fill, 'none', 2)]
    if units:
        middle = f'M{x + side / 2:g} {y}v{side}M{x} {y + side / 2:g}h{side}'
        drawn.append(f'<path d="{middle}" stroke="{PAPER}" stroke-width="1.5"/>')
    return drawn


def grid(x: float, y: float, side: float, kind: str = 'masked', units: bool = False) -> Parts:
    """Draw 4 x 4 cells: 'whole', 'masked', 'zero' (hidden ones computed and set to zero), 'token' or 'filled'."""
    drawn: Parts = []
    for row in range(4):
        for column in range(4):
            fill = COLORS[VISIBLE.index((row, column))] if (row, column) in VISIBLE else None
            place = (x + column * side, y + row * side)
            if fill is None and kind in ('whole', 'filled'):
                fill = '#7fa6b0' if kind == 'whole' else '#a9b8be'
            drawn += cell(*place, side - 2, fill, units)
            if (row, column) not in VISIBLE and kind in ('zero', 'token'):
                drawn.append(text(place[0] + side / 2 - 5, place[1] + side / 2 + 5, '0' if kind == 'zero' else 'm', 15))
    return drawn


def strip(x: float, y: float, side: float, count: int = 6, units: bool = False, columns: int = 6) -> Parts:
    """Draw the visible cells, one behind another."""
    drawn: Parts = []
    for index in range(count):
        drawn += cell(x + index % columns * side, y + index // columns * side, side - 2, COLORS[index], units)
    return drawn


def picture(width: int, height: int, title: str, parts: Parts) -> str:
    """Write a whole drawing."""
    head = '<marker id="head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="6" markerHeight="6" orient="auto">'
    head += f'<path d="M0 0 10 5 0 10z" fill="{SOFT}"/></marker>'
    start = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="{title}"'
    font = 'font-family="system-ui, -apple-system, \'Segoe UI\', Helvetica, Arial, sans-serif"'
    ground = box(1, 1, width - 2, height - 2, PAPER, '#c9d1d5', 12)
    return '\n'.join([f'{start} {font}>', f'<title>{title}</title><defs>{head}</defs>', ground, *parts, '</svg>', ''])


def step(y: float, name: str, gives: str, drawn: Parts, fill: str) -> Parts:
    """Draw a step of the data flow, with a small grid of what it holds."""
    frame = box(180, y, 430, 86, fill, '#9fb0b7')
    return [frame, *drawn, text(268, y + 36, name, 21, 'bold'), text(268, y + 65, gives, 18, 'normal', SOFT)]


def draw_flow() -> str:
    """Draw how data flows through a masked autoencoder."""
    part, data = '#e7f3f5', '#f7f4ee'
    parts = [box(30, 20, 580, 86, data, '#9fb0b7'), *grid(46, 31, 16, 'whole')]
    parts += [text(134, 56, 'images', 21, 'bold'), text(134, 85, 'imgs (B, C, H, W)', 18, 'normal', SOFT)]
    parts += step(146, 'masking: True is hidden', 'cells: mask (B, 1, h, w)', grid(194, 157, 16), part)
    parts += step(
        272, 'encoder.encode(imgs, cells)', 'computes the visible cells', strip(194, 296, 16, columns=4), part
    )
    parts += step(
        398, 'features: zero if hidden', 'maps (B, C\u1d62, H/s\u1d62, W/s\u1d62) per level', grid(194, 409, 16), data
    )
    parts += step(524, 'decoder(features, cells)', '(B, D, H/d, W/d)', grid(194, 535, 16, 'filled'), part)
    parts += step(650, 'head of an objective', 'prediction (B, T, H/t, W/t)', grid(194, 661, 16, 'filled'), part)
    parts += [box(30, 776, 580, 86, part, '#9fb0b7'), text(60, 812, 'losses', 21, 'bold')]
    parts += [text(60, 841, 'prediction against target, one scalar each', 18, 'normal', SOFT)]
    parts += [arrow(f'395,{y} 395,{y + 38}') for y in (107, 233, 359, 485, 611, 737)]
    parts += [box(30, 524, 124, 212, part, '#9fb0b7'), text(46, 560, 'target', 21, 'bold')]
    parts += [
        text(46, y, words, 18, 'normal', SOFT) for y, words in ((590, '(B, T,'), (614, 'H/t, W/t)'), (648, 'without'))
    ]
    parts += [text(46, 672, 'a gradient', 18, 'normal', SOFT), arrow('92,107 92,522'), arrow('92,737 92,774')]
    parts += [arrow('165,107 165,315 178,315'), arrow('611,189 626,189 626,567 612,567')]
    return picture(640, 882, 'Data flow: images are masked, encoded, decoded and compared with a target', parts)


def panel(x: float, y: float, name: str, lines: tuple[str, ...], drawn: Parts) -> Parts:
    """Draw a part of the second drawing: a name, a picture and what it says."""
    words = [text(x + 16, y + 178 + 24 * index, line, 17, 'normal', SOFT) for index, line in enumerate(lines)]
    return [box(x, y, 300, 238, '#f7fafb', '#c9d1d5'), text(x + 16, y + 34, name, 20, 'bold'), *drawn, *words]


def draw_windows(x: float, y: float) -> Parts:
    """Draw the visible tokens of four windows, in groups of two fixed sizes."""
    drawn: Parts = []
    for column, row, colors in ((0, 0, (0, 1)), (0, 1, (4, 5)), (1, 0, (2,)), (1, 1, (3,))):
        left, top = x + 76 * column, y + 50 * row
        drawn.append(box(left - 4, top - 4, 24 * len(colors) + 6, 30, 'none', INK, 4))
        drawn += [
            part for number, color in enumerate(colors) for part in cell(left + 24 * number, top, 22, COLORS[color])
        ]
    return drawn


def draw_skipping() -> str:
    """Draw what each encoder computes of an image of which most is hidden."""
    parts: Parts = []
    for index, (name, lines) in enumerate(PANELS):
        x, y = 14 + index % 2 * 312, 14 + index // 2 * 250
        drawn = grid(x + 16, y + 52, 26, units=name == 'Hiera')
        drawn.append(arrow(f'{x + 126},{y + 102} {x + 156},{y + 102}'))
        right, top = x + 170, y + 52
        if name == 'ViT, Eva':
            drawn += strip(right, top + 37, 20)
        elif name == 'Hiera':
            drawn += strip(right, top + 26, 28, units=True, columns=3)
        elif name.startswith('ConvNeXt'):
            drawn += strip(right + 40, top - 16, 20, columns=1)
            drawn.append(box(right + 36, top - 20, 26, 126, 'none', INK, 4))
        elif name.startswith('Swin'):
            drawn.append(f'<path d="M{x + 67} {top - 4}v110M{x + 12} {top + 51}h110" stroke="{INK}" stroke-width="2"/>')
            drawn += draw_windows(right, top + 14)
        else:
            drawn += grid(right, top, 26, 'zero' if name.startswith('SparseCNN') else 'token')
        parts += panel(x, y, name, lines, drawn)
    return picture(640, 766, 'What each encoder computes when cells are hidden', parts)


PANELS = (
    ('ViT, Eva', ('visible tokens are gathered', 'before the blocks')),
    ('Hiera', ('whole mask units are dropped', 'before the first stage')),
    ('ConvNeXt', ('one packed map; depthwise', 'layers look up neighbors')),
    ('Swin', ('visible tokens of each window,', 'in groups of a few fixed sizes')),
    ('SparseCNN', ('wide convolutions: whole map;', 'all else: visible cells')),
    ('with a mask token', ('as in SimMIM: a learned', 'token there; nothing saved')),
)
PICTURES = {'docs/data_flow.svg': draw_flow, 'docs/skipping.svg': draw_skipping}

if __name__ == '__main__':
    for name, draw in PICTURES.items():
        (ROOT / name).write_text(draw())
