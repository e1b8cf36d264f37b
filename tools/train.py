"""Pretrain or fine-tune: tools/train.py configs/pretrain/quickstart.py"""

import argparse

from mae_toolkit.apis import load_config, train
from mae_toolkit.cli import add_config_options, add_launcher, run_tool


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, see configs/')
    parser.add_argument('--work-dir', help='folder for checkpoints, logs and pictures; work_dirs/<config> by default')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='continue from the newest undamaged checkpoint of the work directory, or from the given one',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (bfloat16, on GPU or CPU)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate to the images per step',
    )
    add_config_options(parser)
    add_launcher(parser)
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    train(
        cfg,
        work_dir=args.work_dir,
        resume=args.resume,
        amp=args.amp,
        auto_scale_lr=args.auto_scale_lr,
        launcher=args.launcher,
    )


if __name__ == '__main__':
    run_tool(main, resume='go on with --resume')
