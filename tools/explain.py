"""Show what a network has learned, as a picture with numbers: tools/explain.py NAME SOURCE IMAGES... --out PICTURE

tools/explain.py attention runs/photos photos/ --out attention.png
tools/explain.py dependence runs/photos photos/1.jpg --place 0.5 0.5 --out dependence.png
tools/explain.py cka runs/photos photos/ --other timm:convnextv2_tiny.fcmae --out similarity.png

SOURCE is the folder of a run, an exported folder, a checkpoint, or weights such as timm:convnextv2_tiny.fcmae. The
numbers are written into a JSON file beside the picture. docs/explain.md shows every picture and how to read it.
"""

import argparse
import sys
from collections.abc import Sequence

from mae_toolkit.apis.explain.commands import add_commands, run_command
from mae_toolkit.cli import run_tool
from mae_toolkit.printing import printable


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add_commands(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    explanation = run_command(options)
    for name, reason in explanation.skipped.items():
        print(f'skipped {printable(name)}: {printable(reason)}', file=sys.stderr)
    print(f'{explanation.title}: {options.out}\n{explanation.caption}')


if __name__ == '__main__':
    run_tool(main)
