"""``mae-toolkit cluster``."""

import argparse

from mae_toolkit.cli import positive_int, seed_number
from mae_toolkit.commands._vectors import add_vectors

DESCRIPTION = """Group the images of a folder by what they show.

  mae-toolkit cluster photos/ --encoder runs/photos --clusters 5 --out groups
  mae-toolkit cluster photos/ --features features.npz --clusters auto --links --out groups

The folder --out gets clusters.csv with the cluster of each image, clusters.json, and a contact sheet cluster_00.png for
each, the largest first; with --links, also a folder of links to the images for each cluster.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('images', nargs='+', metavar='FOLDER', help='folder of images, files or patterns')
    parser.add_argument(
        '--clusters',
        type=_count,
        default='auto',
        metavar='K|auto',
        help='how many; by default those from 2 to 20 whose silhouette is highest',
    )
    parser.add_argument('--out', required=True, metavar='FOLDER', help='folder for the table and the contact sheets')
    parser.add_argument('--links', action='store_true', help='make folders of links to the images, too')
    parser.add_argument('--seed', type=seed_number, default=0)
    add_vectors(parser)


def run(args: argparse.Namespace) -> None:
    """Group the images, and print how many each cluster has."""
    from collections import Counter

    from mae_toolkit.apis.clustering import cluster_images
    from mae_toolkit.printing import format_count

    found = cluster_images(
        args.encoder,
        args.images[0] if len(args.images) == 1 else args.images,
        None if args.clusters == 'auto' else args.clusters,
        args.out,
        links=args.links,
        features=args.features,
        vectors=args.vectors,
        seed=args.seed,
        encoder=args.arch,
        size=args.size,
        batch_size=args.batch_size,
        device=args.device,
    )
    for cluster, count in sorted(Counter(found.values()).items()):
        print(f'cluster {cluster}: {format_count(count, "image")}')
    print(f'{format_count(len(found), "image")} in {args.out}')


def _count(text: str) -> int | str:
    return text if text == 'auto' else positive_int(text)
