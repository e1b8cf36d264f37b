"""Predict boxes, masks or classes on images: tools/predict.py RUN IMAGES... --out FOLDER

RUN is the folder of a training, whose own config and best checkpoint are used; CONFIG CHECKPOINT may be given instead.

For each image, of any size, a picture is written with what the model found, and predictions.json holds all of it as
numbers: objects with boxes, scores and masks of a detector; the share of each class of a segmenter, and beside the
picture a PNG with the class of every pixel; the most probable classes of a classifier. An image that cannot be read or
predicted on is skipped, and listed there with the reason.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from mae_toolkit.apis import load_config
from mae_toolkit.apis.per_image import report_skipped
from mae_toolkit.apis.predict import RECORD, predict_images
from mae_toolkit.cli import (
    add_config_options,
    add_force,
    add_limits,
    device,
    find_config_and_checkpoint,
    fraction,
    parse_limits,
    positive_int,
    run_tool,
)
from mae_toolkit.datasets.image_files import find_images
from mae_toolkit.downstream.task_predictors import DEFAULT_SCORE, DEFAULT_TOP, load_predictor
from mae_toolkit.errors import UserError
from mae_toolkit.printing import format_count

import torch

SUFFIXES = ('.pth', '.pt', '.safetensors')  # of checkpoints


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        'config', metavar='RUN|CONFIG', help='folder of the training of a detector, segmenter or classifier'
    )
    parser.add_argument(
        'images',
        nargs='+',
        metavar='[CHECKPOINT] IMAGES',
        help='checkpoint, the best one of the folder by default; files, folders, or patterns such as "photos/**/*.jpg"',
    )
    parser.add_argument('--out', required=True, help=f'folder for the pictures and {RECORD}')
    parser.add_argument(
        '--score', type=fraction, help=f'detectors: leave out objects of a lower score; {DEFAULT_SCORE} by default'
    )
    parser.add_argument(
        '--top', type=positive_int, help=f'classifiers: number of classes to name; {DEFAULT_TOP} by default'
    )
    parser.add_argument(
        '--show', type=positive_int, help='pixels of the longer side of each picture; else its own size, or a multiple'
    )
    add_limits(parser)
    add_force(parser)
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    add_config_options(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    checkpoint, names = _split_checkpoint(options.config, options.images)
    config, checkpoint = find_config_and_checkpoint(options.config, checkpoint)
    cfg = load_config(config, options.cfg_options)
    images = find_images(names)
    settings = {name: getattr(options, name) for name in ('score', 'top') if getattr(options, name) is not None}
    predictor = load_predictor(cfg, checkpoint, options.device, parse_limits(options), **settings)
    record = predict_images(predictor, images, options.out, options.show, options.force)
    for line in report_skipped(record):
        print(line, file=sys.stderr)
    print(
        f'wrote {format_count(len(record["images"]), "picture")} and {RECORD} to {options.out}; '
        f'{len(record["skipped"])} skipped'
    )


def _split_checkpoint(config: str, names: Sequence[str]) -> tuple[str | None, Sequence[str]]:
    """Return the checkpoint, None if it is to be that of the folder, and the images.

    Raises:
        UserError: If a config comes without a checkpoint or without images.
    """
    if Path(config).is_dir() and Path(names[0]).suffix not in SUFFIXES:
        return None, names
    if len(names) < 2:
        raise UserError('Give CONFIG CHECKPOINT IMAGES, or RUN IMAGES with the folder of a training.')
    return names[0], names[1:]


if __name__ == '__main__':
    run_tool(main)
