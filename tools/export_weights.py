"""Write the encoder of a checkpoint for other programs, as ``mae-toolkit export`` does."""

import argparse

from mae_toolkit.cli import run_tool
from mae_toolkit.commands import export


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=export.DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    export.add_arguments(parser)
    return parser.parse_args()


def main() -> None:
    export.run(parse_args())


if __name__ == '__main__':
    run_tool(main)
