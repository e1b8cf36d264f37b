"""Unpack sets of images and list those of their training splits: tools/unpack_sets.py *.tar --out data/sets"""

import argparse
from pathlib import Path

from mae_toolkit.cli import run_tool
from mae_toolkit.datasets.archives import train_images, unpack
from mae_toolkit.files import atomic_write


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('archives', nargs='*', help='tar archives; none if the folders are there already')
    parser.add_argument('--out', default='data/sets', help='folder that gets a folder per set, and train.txt')
    return parser.parse_args()


def main():
    args = parse_args()
    out = Path(args.out)
    out.mkdir(parents=True, exist_ok=True)
    unpack(args.archives, out)
    names = train_images(out)
    atomic_write(out / 'train.txt', ''.join(f'{name}\n' for name in names))
    print(f'{out / "train.txt"}: {len(names)} images of training splits')


if __name__ == '__main__':
    run_tool(main)
