"""Pretrain configs for the same time each: tools/compare.py configs/compare/*.py --labels data/sets/sign_digits"""

import argparse
from pathlib import Path

from mae_toolkit.apis import load_config
from mae_toolkit.cli import ConfigOptions, run_tool
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.transfer.compare import compare, write_comparison


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('configs', nargs='+', help='configs of pretraining')
    parser.add_argument('--labels', required=True, help='folder with train/<class>/ and test/<class>/, for kNN')
    parser.add_argument('--minutes', type=float, default=3.0, help='minutes of training per config')
    parser.add_argument(
        '--out', default='work_dirs/compare', help='folder for the results: one folder per config, and table.md'
    )
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfgs = {Path(path).stem: load_config(path, args.cfg_options) for path in args.configs}
    if len(cfgs) < len(args.configs):
        raise UserError('Two of the configs have the same file name, which names the results: rename one.')
    text = write_comparison(compare(cfgs, args.out, args.minutes, args.labels))
    atomic_write(Path(args.out) / 'table.md', text + '\n')
    print(text)


if __name__ == '__main__':
    run_tool(main)
