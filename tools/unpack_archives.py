"""Unpack sets of images and list those of their training splits: tools/unpack_archives.py *.tar --out data/sets"""

import argparse
from pathlib import Path

from mae_toolkit.cli import run_tool
from mae_toolkit.datasets.archives import list_training_images, unpack
from mae_toolkit.files import atomic_write
from mae_toolkit.printing import format_count


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('archives', nargs='*', help='tar archives; none if the folders are there already')
    parser.add_argument('--out', default='data/sets', help='folder that gets a folder per set, and train.txt')
    parser.add_argument(
        '--folders',
        nargs='+',
        default=['images'],
        help='folders of a set in which the images of its annotations/train.json lie; further ones may hold other '
        'images under the same names, such as templates without defects (default: images)',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    unpack(args.archives, out)
    names = list_training_images(out, args.folders)
    atomic_write(out / 'train.txt', ''.join(f'{name}\n' for name in names))
    print(f'{out / "train.txt"}: {format_count(len(names), "image")} of training splits')


if __name__ == '__main__':
    run_tool(main)
