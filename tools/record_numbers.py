"""Record losses and gradients of configs on a fixed batch, or compare them with a record made before a refactoring.

    python tools/record_numbers.py configs/pretrain/*/*.py --out before.json
    python tools/record_numbers.py configs/pretrain/*/*.py --against before.json

It ends with status 1 if any number differs in any bit. Records are of one machine and one version of PyTorch.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path

from mae_toolkit.apis import load_config
from mae_toolkit.benchmarks.numbers import compare_numbers, record_numbers
from mae_toolkit.cli import positive_int, run_tool
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write

from tqdm import tqdm


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('configs', nargs='+', help='configs of pretraining')
    parser.add_argument('--out', type=Path, help='JSON file for the record')
    parser.add_argument('--against', type=Path, help='an earlier record, to compare with')
    parser.add_argument('--batch', type=positive_int, default=2, help='images (default: %(default)s)')
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    args = parse_args(args)
    before = read_record(args.against) if args.against else {}
    after = {}
    for config in tqdm(args.configs, unit='config'):
        after[config] = record_numbers(load_config(config), args.batch).to_dict()
        if args.out:
            atomic_write(args.out, json.dumps(after, indent=2) + '\n')
    if args.against:
        differences = compare_numbers({name: before[name] for name in args.configs if name in before}, after)
        print('\n'.join(differences) or f'The numbers of {len(after)} configs agree bit for bit.')
        sys.exit(1 if differences else 0)


def read_record(path: Path) -> dict[str, dict]:
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise UserError(f'--against {path} is no record ({error}): make one with --out.') from None


if __name__ == '__main__':
    run_tool(main)
