"""``mae-toolkit duplicates``."""

import argparse

from mae_toolkit.cli import add_force, positive_int
from mae_toolkit.commands._vectors import add_vectors

DESCRIPTION = """Find images that are there twice, or that leak from a training set into a test set.

  mae-toolkit duplicates photos/ --encoder runs/photos --out twice
  mae-toolkit duplicates train/ test/ --encoder runs/photos --out leaks

Copies are found in another size or encoding, turned, or cut out. With two folders, pairs are of one image of each. The
folder --out gets duplicates.csv, duplicates.json, and duplicates.png with both images of each pair.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('images', metavar='TRAIN', help='folder of images, or a pattern')
    parser.add_argument('test', metavar='TEST', nargs='?', help='another one: pairs are of one image of each')
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder for the lists and the picture')
    parser.add_argument(
        '--neighbors', type=positive_int, default=20, help='images with which each is compared; 20 by default'
    )
    add_vectors(parser)
    add_force(parser)


def run(args: argparse.Namespace) -> None:
    """Find the pairs, and print how many there are."""
    from mae_toolkit.apis.duplicates import find_duplicates
    from mae_toolkit.printing import format_count, printable

    found = find_duplicates(
        args.encoder,
        args.images,
        args.test,
        args.out,
        features=args.features,
        vectors=args.vectors,
        neighbors=args.neighbors,
        encoder=args.arch,
        size=args.size,
        batch_size=args.batch_size,
        device=args.device,
        force=args.force,
    )
    for pair in found[:10]:
        print(f'{pair["kind"]:8} {printable(pair["image"])}  {printable(pair["other"])}')
    sets = 'between the sets' if args.test else 'of images'
    print(f'{format_count(len(found), "pair")} {sets} in {args.out}')
