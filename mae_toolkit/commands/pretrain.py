"""``mae-toolkit pretrain``."""

import argparse
import re

from mae_toolkit.cli import add_config_options, positive_int, positive_number

RESUME = 'go on with --resume'
DESCRIPTION = """Pretrain an encoder on a folder of images.

The images are looked at, steps are tried on the device, and a complete config is written into --out, with the reason
behind every number. Training goes by it.

  mae-toolkit pretrain photos/ --encoder convnextv2_tiny --out runs/photos
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('folder', help='images, with subfolders and any mixture of sizes and formats')
    parser.add_argument('--encoder', metavar='ARCH', help='architecture of timm, such as convnextv2_tiny')
    parser.add_argument(
        '--from',
        dest='weights',
        metavar='WEIGHTS',
        help='weights that the encoder begins with: [FORMAT:]FILE[#PART]; random ones by default',
    )
    parser.add_argument('--out', required=True, metavar='RUN', help='folder for config, checkpoints, logs and pictures')
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--epochs', type=positive_int, help='how often each image is seen')
    length.add_argument('--minutes', type=positive_number, help='wall time of the whole command')
    parser.add_argument('--size', type=_size, help='pixels of the crops: 160 or 128,192 (height, width)')
    parser.add_argument(
        '--labels',
        metavar='FOLDER',
        help='labeled images by which the encoder is watched: class folders, a CSV, or images and masks',
    )
    parser.add_argument(
        '--channels-rule',
        choices=('sum', 'mean', 'first'),
        help='how weights for another number of channels are converted; sum by default',
    )
    parser.add_argument('--resume', action='store_true', help='continue the run in --out')
    add_config_options(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command."""
    from mae_toolkit.apis.pretraining import pretrain

    pretrain(
        args.folder,
        args.encoder,
        args.out,
        weights=args.weights,
        epochs=args.epochs,
        minutes=args.minutes,
        size=args.size,
        labels=args.labels,
        channels_rule=args.channels_rule,
        resume=args.resume,
        cfg_options=args.cfg_options,
        began=args.began,
    )


def _size(text: str) -> int | tuple[int, int]:
    """Convert text such as ``160`` or ``128,192`` to a size; a type for ``argparse``."""
    if not re.fullmatch(r'[1-9]\d*([,x][1-9]\d*)?', text):
        raise argparse.ArgumentTypeError(f'{text} is no size: write 160, or 128,192 for height and width')
    sides = [int(side) for side in re.split('[,x]', text)]
    return sides[0] if len(sides) == 1 else (sides[0], sides[1])
