"""Check the data of a config without training: tools/check_data.py CONFIG"""

import argparse
import json
import sys

from mae_toolkit.apis import load_config
from mae_toolkit.cli import ConfigOptions, output_file, run_tool
from mae_toolkit.datasets.checks import SPLITS, check_data, format_report
from mae_toolkit.files import atomic_write


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--split', nargs='+', choices=SPLITS, default=SPLITS, help='splits to check; all by default')
    parser.add_argument('--json', metavar='FILE', type=output_file, help='write the report to this file, too')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    report = check_data(load_config(args.config, args.cfg_options), args.split)
    if args.json:
        atomic_write(args.json, json.dumps(report.to_dict(), indent=2) + '\n')
    print(format_report(report))
    if report.errors():
        sys.exit(2)


if __name__ == '__main__':
    run_tool(main)
