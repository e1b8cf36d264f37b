"""Measure what the frozen features of an encoder are worth: tools/evaluate.py CONFIG_OR_ENCODER [CHECKPOINT] --on SET

The same as the command mae-toolkit evaluate.
"""

import argparse
from collections.abc import Sequence

from mae_toolkit.cli import run_tool
from mae_toolkit.commands import evaluate


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=evaluate.DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    evaluate.add_arguments(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    evaluate.run(parse_args(args))


if __name__ == '__main__':
    run_tool(main)
