"""Write a folder of images as shards: tools/make_shards.py FOLDER --out DIR

A call that was ended goes on where it was if it is repeated. Training reads the shards by a ShardDataset.
"""

import argparse
import sys

from mae_toolkit.cli import positive_int, run_tool, seed_number
from mae_toolkit.datasets.shards.cache import parse_size
from mae_toolkit.datasets.shards.writer import ShardSettings, make_shards
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count, printable


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('folder', help='folder of images, with subfolders')
    parser.add_argument('--out', required=True, metavar='DIR', help='new folder for the shards')
    parser.add_argument('--format', choices=('wds', 'lmdb'), default='wds', help='tars of WebDataset, or LMDBs')
    parser.add_argument('--shard-size', default='512MB', metavar='SIZE', help='bytes of images per shard')
    parser.add_argument('--split', default='train', metavar='NAME', help='name of the split, and of the shards')
    parser.add_argument('--labels', action='store_true', help='write the class of each image, the folder it lies in')
    parser.add_argument(
        '--short-side',
        type=positive_int,
        metavar='PIXELS',
        help='reduce larger images of 8 bits to this shorter side, as JPEG; others are copied as they are',
    )
    parser.add_argument('--quality', type=positive_int, default=95, help='quality of these JPEGs, at most 100')
    parser.add_argument('--seed', type=seed_number, default=0, help='seed of the order of the images')
    parser.add_argument('--no-shuffle', action='store_true', help='keep the images in the order of their names')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if args.quality > 100:
        raise UserError(f'--quality {args.quality}: at most 100.')
    settings = ShardSettings(
        folder=args.folder,
        format=args.format,
        shard_size=parse_size(args.shard_size),
        split=args.split,
        labels=args.labels,
        short_side=args.short_side,
        quality=args.quality,
        seed=None if args.no_shuffle else args.seed,
    )
    made = make_shards(settings, args.out)
    for name, reason in made.reasons.items():
        print(f'broken image, left out: {printable(name)}: {printable(reason)}', file=sys.stderr)
    images = format_count(sum(made.lengths.values()), 'image')
    left_out = f', {format_count(made.skipped, "broken image")} left out' if made.skipped else ''
    print(f'{args.out}: {images} in {format_count(len(made.lengths), "shard")}{left_out}')


if __name__ == '__main__':
    run_tool(main)
