"""Make pictures of pages: those of mae-toolkit demo, or any that lies in a file or is served here.

    python tests/make_screenshots.py demo work_dirs/quickstart --images photos/ --out docs/demo.png
    python tests/make_screenshots.py page site/index.html --phone --out page.png

They are taken by a headless Chromium without any connection but to this machine.
"""

import argparse
from pathlib import Path

from browser import DESKTOP, PHONE, open_browser, open_page


def parse_args(args=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest='command', required=True)
    demo, page = commands.add_parser('demo'), commands.add_parser('page')
    demo.add_argument('checkpoint')
    demo.add_argument('--image', help='that is given to the page; its example by default')
    demo.add_argument('--images', help='folder for the nearest images')
    demo.add_argument('--tab', default='Reconstruction', help='that is shown')
    demo.add_argument('--paint', action='store_true', help='hide a stroke across the image')
    page.add_argument('page', help='file or address')
    for one in (demo, page):
        one.add_argument('--out', required=True)
        one.add_argument('--phone', action='store_true', help=f'{PHONE[0]} pixels wide in place of {DESKTOP[0]}')
        one.add_argument('--colors', type=int, help='reduce the picture to so many, where its file is too large')
    return parser.parse_args(args)


def paint(page):
    """Paint a stroke across the middle of the picture."""
    page.get_by_label('painted by hand').check()
    page.wait_for_selector('#reconstruction [role=alert]')
    page.wait_for_timeout(5000)  # for the canvas, which is drawn in software
    box = page.locator('#paint canvas').first.bounding_box()
    x, y = box['x'] + box['width'] / 2, box['y'] + box['height'] / 2
    page.mouse.move(x - 80, y)
    page.mouse.down()
    page.mouse.move(x + 80, y + 40, steps=12)
    page.mouse.up()
    page.wait_for_selector('#reconstruction .numbers')


def save(page, options):
    """Save the whole page as a PNG."""
    from PIL import Image

    page.screenshot(path=options.out, full_page=True)
    picture = Image.open(options.out).convert('RGB')
    picture = picture.quantize(options.colors, dither=Image.Dither.NONE) if options.colors else picture
    picture.save(options.out, optimize=True)
    print(f'{options.out}: {picture.width} x {picture.height}, {Path(options.out).stat().st_size:,} bytes')


def shoot_demo(browser, options, size):
    from mae_toolkit.demo import Sources, load_models, serve

    models = load_models(Sources(options.checkpoint, images=options.images, device='cpu'))
    with serve(models) as address, open_page(browser, address, size) as page:
        if options.image:
            page.set_input_files('#upload input[type=file]', options.image)
        else:
            page.get_by_role('button', name='Take an example').click()
        page.wait_for_selector('#reconstruction .numbers')
        if options.paint:
            paint(page)
        page.get_by_role('tab', name=options.tab).click()
        page.wait_for_timeout(2000)  # for the other tabs, which are filled one after the other
        save(page, options)


def main(args=None):
    options = parse_args(args)
    size = PHONE if options.phone else DESKTOP
    with open_browser() as browser:
        if options.command == 'demo':
            shoot_demo(browser, options, size)
        else:
            path = Path(options.page)
            with open_page(browser, path.resolve().as_uri() if path.exists() else options.page, size) as page:
                save(page, options)


if __name__ == '__main__':
    main()
