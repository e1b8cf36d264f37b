"""Show what a model makes of hidden parts: tools/reconstruct.py CONFIG CHECKPOINT IMAGES... --out DIR

For each image, of any size, one picture: the original, the masked image, the prediction, both pasted together, and the
error. Under a target that is normalized per patch, the prediction gets the statistics of the visible patches around,
which is all that the model knows; a further column uses the image's own statistics, and says so. reconstructions.json
lists the pictures, and the images that were skipped with the reason.
"""

import argparse
import sys

import torch

from mae_toolkit.apis import load_config, model_from_checkpoint, reconstruct_images
from mae_toolkit.apis.per_image import report_skipped
from mae_toolkit.apis.reconstruct import RECORD
from mae_toolkit.cli import ConfigOptions, add_force, add_limits, device, limits_of, positive, run_tool
from mae_toolkit.datasets.image_files import find_images


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='training checkpoint, or what import_weights.py wrote')
    parser.add_argument('images', nargs='+', help='files, folders, or patterns such as "photos/**/*.jpg"')
    parser.add_argument('--out', required=True, help=f'folder for the pictures and {RECORD}')
    parser.add_argument('--short-side', type=positive, help='resize so that the shorter side has so many pixels')
    parser.add_argument('--show', type=positive, help='pixels of the longer side of each picture; else its own size')
    parser.add_argument('--seed', type=int, default=0, help='of the masks')
    add_limits(parser)
    add_force(parser)
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    images = find_images(args.images)
    model = model_from_checkpoint(cfg, args.checkpoint).to(args.device)
    record = reconstruct_images(
        model, images, args.out, args.short_side, args.show, args.seed, limits_of(args), args.force
    )
    for line in report_skipped(record):
        print(line, file=sys.stderr)
    print(f'wrote {len(record["images"])} pictures and {RECORD} to {args.out}; {len(record["skipped"])} skipped')


if __name__ == '__main__':
    run_tool(main)
