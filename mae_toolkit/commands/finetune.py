"""The command ``mae-toolkit finetune``."""

import argparse

from mae_toolkit.cli import add_config_options, positive_int, positive_number, seed_number

TASKS = ('classify', 'detect', 'segment')
RESUME = 'go on with --resume'
DESCRIPTION = """Train a detector, a segmenter or a classifier on your own labels.

  mae-toolkit finetune detect photos/annotations.json --from runs/photos --out runs/detector
  mae-toolkit finetune segment photos/ --out runs/segmenter            # photos/images and photos/masks
  mae-toolkit finetune classify photos/ --out runs/classifier          # a folder for each class

Boxes are read from COCO JSON, YOLO (data.yaml or a folder) or Pascal VOC; masks are PNG files of values or palette
indices; classes are folders, or a CSV file with a file and a label in each line. The folder --out gets the labels as
they are used, a complete config.py with a reason behind every number, checkpoints, curves, and pictures of what the
best checkpoint predicts on test images.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command.

    Args:
        parser: The parser.
    """
    parser.add_argument('task', choices=TASKS, help='what to train')
    parser.add_argument('data', help='the labels: a file or folder')
    parser.add_argument('--out', required=True, metavar='RUN', help='folder for everything that is written')
    parser.add_argument('--images', metavar='FOLDER', help='folder of the images, if they are not near the labels')
    parser.add_argument(
        '--from',
        dest='weights',
        metavar='RUN|WEIGHTS',
        help='begin with the encoder of a run, an exported folder, or [FORMAT:]FILE[#PART]; random weights by default',
    )
    parser.add_argument('--encoder', metavar='ARCH', help='architecture of timm; that of the run or folder by default')
    length = parser.add_mutually_exclusive_group()
    length.add_argument('--steps', type=positive_int, help='steps of training; chosen from the data by default')
    length.add_argument('--epochs', type=positive_number, help='passes over the images instead')
    length.add_argument(
        '--minutes', type=positive_number, help='wall time of the whole command, the test included, instead'
    )
    parser.add_argument(
        '--size', type=positive_int, help="pixels of the longer side of an image; of a classifier's crops"
    )
    parser.add_argument(
        '--patience', type=positive_int, metavar='N', help='stop after N validations without a better result'
    )
    parser.add_argument('--ignore-index', type=int, help='value of masks whose pixels do not count; 255 by default')
    parser.add_argument('--seed', type=seed_number, help='seed of the split and of the training; 0 by default')
    parser.add_argument('--resume', action='store_true', help='go on with an interrupted run')
    add_config_options(parser)


def run(args: argparse.Namespace) -> None:
    """Run the command.

    Args:
        args: The parsed arguments.
    """
    from mae_toolkit.apis.finetuning import finetune

    finetune(
        args.task,
        args.data,
        args.out,
        images=args.images,
        weights=args.weights,
        encoder=args.encoder,
        size=args.size,
        steps=args.steps,
        epochs=args.epochs,
        minutes=args.minutes,
        patience=args.patience,
        ignore_index=args.ignore_index,
        seed=args.seed,
        resume=args.resume,
        cfg_options=args.cfg_options,
        began=args.began,
    )
