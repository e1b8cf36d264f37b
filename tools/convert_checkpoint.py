"""Make one file of a sharded checkpoint, or the reverse: tools/convert_checkpoint.py iter_9.dcp --out iter_9.pth"""

import argparse

from mae_toolkit.checkpoints.convert import convert_checkpoint
from mae_toolkit.cli import add_force, run_tool
from mae_toolkit.outputs import check_output


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('checkpoint', help='folder *.dcp of a run, or a link to it such as last; or a file *.pth')
    parser.add_argument('--out', required=True, help='file *.pth to write for a folder, folder *.dcp for a file')
    add_force(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    check_output(args.out, args.force, [args.checkpoint])
    convert_checkpoint(args.checkpoint, args.out)


if __name__ == '__main__':
    run_tool(main)
