"""Measure a checkpoint on held-out images, by metrics or losses under fixed masks: tools/test.py CONFIG CHECKPOINT"""

import argparse
import json
import math
from collections.abc import Sequence

from mmengine.dist import is_main_process

from mae_toolkit.apis import load_config, test
from mae_toolkit.cli import add_config_options, add_force, add_launcher, output_file, run_tool
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output, is_numbers


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='training checkpoint')
    parser.add_argument(
        '--split', choices=('test', 'val'), help='images of test_dataloader, if there is one, or of val_dataloader'
    )
    parser.add_argument('--work-dir', help='folder for the log')
    parser.add_argument(
        '--out', metavar='FILE', type=output_file, help='JSON file for the numbers, null where there is none'
    )
    add_force(parser)
    add_config_options(parser)
    add_launcher(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    if options.out:
        check_output(options.out, options.force, (options.config, options.checkpoint), is_numbers)
    cfg = load_config(options.config, options.cfg_options)
    numbers = test(cfg, options.checkpoint, options.work_dir, options.launcher, options.split)
    if not is_main_process():
        return
    for name, value in numbers.items():
        print(f'{name}: {value:.6f}' if math.isfinite(value) else f'{name}: none, as the images have no such object')
    if options.out:
        known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        atomic_write(options.out, json.dumps(known, indent=2, allow_nan=False) + '\n')


if __name__ == '__main__':
    run_tool(main)
