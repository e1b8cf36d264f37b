"""Record losses and gradients of configs on a fixed batch, or compare them with a record made before a refactoring.

    python tools/record_numbers.py configs/pretrain/*/*.py --out before.json
    python tools/record_numbers.py configs/pretrain/*/*.py --against before.json

It ends with status 1 if any number differs in any bit. Records are of one machine and one version of PyTorch.
"""

import argparse
import json
from pathlib import Path

from tqdm import tqdm

from mae_toolkit.apis import load_config
from mae_toolkit.benchmarks.numbers import compare_numbers, record_numbers
from mae_toolkit.cli import run_tool


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    parser.add_argument('configs', nargs='+', help='pretraining configs')
    parser.add_argument('--out', type=Path, help='JSON file for the record')
    parser.add_argument('--against', type=Path, help='record of before, to compare with')
    parser.add_argument('--batch', type=int, default=2, help='images (default: %(default)s)')
    args = parser.parse_args()
    after = {}
    for config in tqdm(args.configs, unit='config'):
        after[config] = record_numbers(load_config(config), args.batch).to_dict()
        if args.out:
            args.out.write_text(json.dumps(after, indent=2) + '\n')
    if args.against:
        before = json.loads(args.against.read_text())
        differences = compare_numbers({name: before[name] for name in args.configs if name in before}, after)
        print('\n'.join(differences) or f'The numbers of {len(after)} configs agree bit for bit.')
        raise SystemExit(1 if differences else 0)


if __name__ == '__main__':
    run_tool(main)
