"""Show the images that a model will be trained on, after augmentation: tools/browse_dataset.py CONFIG --out browse.png

For detection and segmentation, boxes, masks and labels are drawn on the images, with a legend of the classes.
"""

import argparse
import sys
from functools import partial
from pathlib import Path

from mae_toolkit.apis import load_config
from mae_toolkit.apis.browsing import browse
from mae_toolkit.cli import ConfigOptions, add_force, output_file, positive_int, run_tool
from mae_toolkit.errors import UserError
from mae_toolkit.outputs import check_output, is_own_picture, write_picture
from mae_toolkit.printing import format_count, printable
from mae_toolkit.visualization import make_picture_grid
from mae_toolkit.visualization.predictions import add_legend

from PIL import Image

TOOL = 'browse_dataset'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', default='browse.png', type=output_file, help='image file to write')
    parser.add_argument('--val', action='store_true', help='show validation images instead of training images')
    parser.add_argument('--rows', type=positive_int, default=6, help='number of images')
    parser.add_argument(
        '--columns',
        type=positive_int,
        default=6,
        help='number of epochs, each with other random crops of the same images',
    )
    add_force(parser)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if Image.registered_extensions().get(Path(args.out).suffix.lower()) not in ('PNG', 'JPEG', 'WEBP', 'BMP', 'TIFF'):
        raise UserError(f'--out {args.out}: the name must end in .png, .jpg, .webp, .bmp or .tif.')
    check_output(args.out, args.force, (args.config,), partial(is_own_picture, tool=TOOL))
    cfg = load_config(args.config, args.cfg_options)
    shown = browse(cfg, args.val, args.rows, args.columns)
    sheet = make_picture_grid(shown.pictures, [f'epoch {epoch}' for epoch in range(args.columns)], side=160)
    write_picture(args.out, add_legend(sheet, shown.colors), TOOL)
    for name, reason in shown.broken:
        print(f'broken image, replaced by another: {printable(name)}: {printable(reason)}', file=sys.stderr)
    print(f'{format_count(shown.images, "image")} per epoch; wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
