"""Show how a model reconstructs hidden parts of images: tools/reconstruct.py CONFIG CHECKPOINT IMAGES... --out DIR

For each image, of any size, one picture is written: the original, the masked image, the prediction, both pasted
together, and the error. If the target is normalized per patch, the prediction gets the statistics of the visible
patches around, which are all that the model knows; a further column, with its own heading, uses the image's own
statistics. reconstructions.json lists the pictures, and the skipped images with the reason.
"""

import argparse
import sys
from collections.abc import Sequence

from mae_toolkit.apis import load_config, load_reconstructor
from mae_toolkit.apis.per_image import report_skipped
from mae_toolkit.apis.reconstruct import RECORD
from mae_toolkit.cli import (
    add_config_options,
    add_force,
    add_limits,
    device,
    parse_limits,
    positive_int,
    run_tool,
    seed_number,
)
from mae_toolkit.datasets.image_files import find_images
from mae_toolkit.printing import format_count

import torch


def parse_args(args: Sequence[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='training checkpoint, or what import_weights.py wrote')
    parser.add_argument('images', nargs='+', help='files, folders, or patterns such as "photos/**/*.jpg"')
    parser.add_argument('--out', required=True, help=f'folder for the pictures and {RECORD}')
    parser.add_argument('--short-side', type=positive_int, help='pixels to which the shorter side is resized')
    parser.add_argument(
        '--show', type=positive_int, help='pixels of the longer side of each picture; its own size by default'
    )
    parser.add_argument('--ratio', type=float, help='share of the cells that is hidden; as in the training by default')
    parser.add_argument('--masking', help='masking in place of that of the training, such as BlockMasking')
    parser.add_argument('--seed', type=seed_number, default=0, help='seed of the masks')
    add_limits(parser)
    add_force(parser)
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    add_config_options(parser)
    return parser.parse_args(args)


def main(args: Sequence[str] | None = None) -> None:
    options = parse_args(args)
    cfg = load_config(options.config, options.cfg_options)
    images = find_images(options.images)
    reconstructor = load_reconstructor(
        options.checkpoint,
        cfg,
        ratio=options.ratio,
        masking=options.masking,
        seed=options.seed,
        short_side=options.short_side,
        limits=parse_limits(options),
        device=options.device,
    )
    record = reconstructor.write(images, options.out, options.show, options.force)
    for line in report_skipped(record):
        print(line, file=sys.stderr)
    print(
        f'wrote {format_count(len(record["images"]), "picture")} and {RECORD} to {options.out}; '
        f'{len(record["skipped"])} skipped'
    )


if __name__ == '__main__':
    run_tool(main)
