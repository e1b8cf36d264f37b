"""Plot what pretraining is worth: tools/plot_gains.py docs/results/small_sets --out docs/gains.png"""

import argparse
from pathlib import Path

from mae_toolkit.cli import fraction, output_file, run_tool
from mae_toolkit.transfer.gains import draw_gains, read_gains


def parse_args(args=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('folder', help='folder with a table.csv, as tools/transfer.py table writes it')
    parser.add_argument('--labels', type=fraction, default=0.1, help='fraction of the labels (default: 0.1)')
    parser.add_argument('--out', type=output_file, required=True, help='PNG to write')
    return parser.parse_args(args)


def main(args=None):
    args = parse_args(args)
    draw_gains(read_gains(Path(args.folder) / 'table.csv', args.labels), args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
