"""Print a config with all that it inherits: tools/print_config.py CONFIG"""

import argparse

from mae_toolkit.apis import load_config
from mae_toolkit.cli import add_config_options, run_tool


def parse_args(args=None):
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    add_config_options(parser)
    return parser.parse_args(args)


def main(args=None):
    args = parse_args(args)
    print(load_config(args.config, args.cfg_options).pretty_text)


if __name__ == '__main__':
    run_tool(main)
