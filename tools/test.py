"""Measure a checkpoint on held-out images, by metrics or losses under fixed masks: tools/test.py RUN

RUN is the folder of a training: its own config, with the options of its command line, and its best checkpoint are used.
CONFIG CHECKPOINT are used as they are given.
"""

import argparse
import json
import math
from collections.abc import Sequence

from mae_toolkit.apis import load_config, test
from mae_toolkit.cli import (
    add_config_options,
    add_force,
    add_launcher,
    find_config_and_checkpoint,
    output_file,
    run_tool,
)
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output, is_numbers

from mmengine.dist import is_main_process


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', metavar='RUN|CONFIG', help='folder of a training, or config file')
    parser.add_argument('checkpoint', nargs='?', help='training checkpoint; the best one of the folder by default')
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
    config, checkpoint = find_config_and_checkpoint(options.config, options.checkpoint)
    if options.out:
        check_output(options.out, options.force, (config, checkpoint), is_numbers)
    cfg = load_config(config, options.cfg_options)
    numbers = test(cfg, checkpoint, options.work_dir, options.launcher, options.split)
    if not is_main_process():
        return
    for name, value in numbers.items():
        print(f'{name}: {value:.6f}' if math.isfinite(value) else f'{name}: none, as the images have no such object')
    if options.out:
        known = {name: value if math.isfinite(value) else None for name, value in numbers.items()}
        atomic_write(options.out, json.dumps(known, indent=2, allow_nan=False) + '\n')


if __name__ == '__main__':
    run_tool(main)
