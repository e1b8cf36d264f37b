"""Pretrain or fine-tune: tools/train.py configs/pretrain/quickstart.py"""

import argparse

from mae_toolkit.apis import load_config
from mae_toolkit.apis.training import train
from mae_toolkit.cli import ConfigOptions, run_tool


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file, see configs/')
    parser.add_argument('--work-dir', help='folder for checkpoints, logs and pictures; work_dirs/<config> by default')
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from the newest whole checkpoint of the work directory, or from the one that is named',
    )
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (bfloat16, on GPU or CPU)')
    parser.add_argument(
        '--auto-scale-lr', action='store_true', help='scale the learning rate to the real batch: lr * batch / base'
    )
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=ConfigOptions,
        default={},
        metavar='KEY=VALUE',
        help='override settings of the config: train_dataloader.batch_size=32 train_cfg.max_epochs=10',
    )
    parser.add_argument('--launcher', choices=('none', 'pytorch', 'slurm', 'mpi'), default='none')
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser.parse_args()


def main():
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
