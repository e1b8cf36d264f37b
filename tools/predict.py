"""Boxes, masks or classes on images: tools/predict.py CONFIG CHECKPOINT IMAGES... --out FOLDER

For each image, of any size, a picture with what the model found, and in predictions.json all of it as numbers: objects
with boxes, scores and masks of a detector; shares of the classes of a segmenter, and beside the picture a PNG with the
class of every pixel; the likeliest classes of a classifier. An image that cannot be read or predicted on is skipped,
and named there with the reason.
"""

import argparse
import sys

import torch

from mae_toolkit.apis import load_config
from mae_toolkit.apis.per_image import report_skipped
from mae_toolkit.apis.predict import RECORD, predict_images
from mae_toolkit.cli import ConfigOptions, add_force, add_limits, device, limits_of, positive, run_tool, share
from mae_toolkit.datasets.image_files import find_images
from mae_toolkit.downstream.task_predictors import DEFAULT_SCORE, DEFAULT_TOP, load_predictor


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file of a detector, a segmenter or a classifier')
    parser.add_argument('checkpoint', help='checkpoint of its training')
    parser.add_argument('images', nargs='+', help='files, folders, or patterns such as "photos/**/*.jpg"')
    parser.add_argument('--out', required=True, help=f'folder for the pictures and {RECORD}')
    parser.add_argument(
        '--score', type=share, help=f'detectors: leave out objects of a lower score; {DEFAULT_SCORE} by default'
    )
    parser.add_argument('--top', type=positive, help=f'classifiers: how many classes to name; {DEFAULT_TOP} by default')
    parser.add_argument(
        '--show', type=positive, help='pixels of the longer side of each picture; else its own size, or a multiple'
    )
    add_limits(parser)
    add_force(parser)
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    images = find_images(args.images)
    options = {name: getattr(args, name) for name in ('score', 'top') if getattr(args, name) is not None}
    predictor = load_predictor(cfg, args.checkpoint, args.device, limits_of(args), **options)
    record = predict_images(predictor, images, args.out, args.show, args.force)
    for line in report_skipped(record):
        print(line, file=sys.stderr)
    print(f'wrote {len(record["images"])} pictures and {RECORD} to {args.out}; {len(record["skipped"])} skipped')


if __name__ == '__main__':
    run_tool(main)
