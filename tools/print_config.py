"""Print a config with all that it inherits: tools/print_config.py CONFIG"""

import argparse
from collections.abc import Sequence

from mae_toolkit.apis import load_config
from mae_toolkit.cli import add_config_options, run_tool


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    print(load_config(options.config, options.cfg_options).pretty_text)


if __name__ == '__main__':
    run_tool(main)
