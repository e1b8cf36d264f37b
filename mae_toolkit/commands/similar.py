"""``mae-toolkit similar``."""

import argparse

from mae_toolkit.cli import add_force, positive_int
from mae_toolkit.commands._vectors import add_vectors

DESCRIPTION = """Find the images that are most similar to one, and show the regions that make them so.

  mae-toolkit similar photos/ photos/1.jpg --encoder runs/photos --out sheet.png
  mae-toolkit similar photos/ new.jpg --features features.npz --out sheet.png

Each row of the sheet is a match: the image, the same with the parts that are like the match, the match, and the same
with the parts that are like the image. sheet.json has the names, cosines and regions. With --features, a file of
mae-toolkit embed, the folder is not encoded again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('images', metavar='FOLDER', help='folder of images, or a pattern')
    parser.add_argument('image', metavar='IMAGE', help='the image to which others are similar')
    parser.add_argument('--out', required=True, metavar='SHEET', help='picture ending in .png')
    parser.add_argument('--count', type=positive_int, help='how many; 8 by default')
    add_vectors(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> None:
    """Find the images, and print their names."""
    from mae_toolkit.apis.similar import find_similar
    from mae_toolkit.printing import printable

    found = find_similar(
        args.encoder,
        args.images,
        args.image,
        args.out,
        count=args.count,
        features=args.features,
        vectors=args.vectors,
        encoder=args.arch,
        size=args.size,
        batch_size=args.batch_size,
        device=args.device,
        force=args.force,
    )
    for match in found:
        print(f'{match.cosine:.4f} {printable(match.path)}')
    print(f'The regions are in {args.out}.')
