"""``mae-toolkit embed``."""

import argparse

from mae_toolkit.cli import add_force, device, positive_int

POOLINGS = ('mean', 'max', 'gem', 'class', 'prefix')
RESUME = 'the same command goes on'
DESCRIPTION = """Make vectors of images: one for each level of an encoder and each pooling.

  mae-toolkit embed runs/photos photos/ --out features.npz
  mae-toolkit embed timm:convnextv2_tiny.fcmae photos/ --out features.csv

.npz, .parquet and .pt hold all of them, by names such as level4.mean, beside the names and sizes of the images and what
was skipped; .csv holds the mean of the coarsest level. The same command goes on where it stopped, and encodes only new
and changed images.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('encoder', metavar='ENCODER', help='run, exported folder, checkpoint, or [FORMAT:]FILE[#PART]')
    parser.add_argument('images', nargs='+', metavar='FOLDER', help='folder of images, files or patterns')
    parser.add_argument('--out', required=True, help='file ending in .npz, .parquet, .csv or .pt')
    parser.add_argument('--arch', help='architecture of timm, if the weights do not say it')
    parser.add_argument('--levels', type=positive_int, nargs='+', help='levels, 1 the finest; all by default')
    parser.add_argument('--poolings', nargs='+', choices=POOLINGS, default=POOLINGS, help='all by default')
    parser.add_argument('--size', type=positive_int, help='pixels of the images; as in the training by default')
    parser.add_argument('--batch-size', type=positive_int, default=32)
    parser.add_argument('--device', type=device, help='cpu or cuda; a GPU if there is one')
    add_force(parser)


def run(args: argparse.Namespace) -> None:
    """Make the vectors, and print what was written."""
    from mae_toolkit.apis.embedding import embed
    from mae_toolkit.printing import format_count, some

    found = embed(
        args.encoder,
        args.images[0] if len(args.images) == 1 else args.images,
        args.out,
        encoder=args.arch,
        levels=args.levels,
        poolings=args.poolings,
        size=args.size,
        batch_size=args.batch_size,
        device=args.device,
        force=args.force,
    )
    for name, vectors in found.features.items():
        print(f'{name:16} {vectors.shape[1]:6} numbers')
    print(f'{format_count(len(found), "image")} in {args.out}')
    if found.skipped:
        reasons = [f'{name} ({reason})' for name, reason in found.skipped.items()]
        print(f'{format_count(len(reasons), "image")} skipped: {some(reasons)}')
