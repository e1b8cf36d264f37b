"""Make a codebook of image patches: tools/make_codebook.py CONFIG --out codebook.safetensors --codes 512

Centers of k-means over patches of the training images of a config, normalized as its CodebookTarget does. The file is
named in the config: target=dict(type='CodebookTarget', centers='codebook.safetensors').
"""

import argparse
from functools import partial

from mae_toolkit.apis import load_config
from mae_toolkit.cli import ConfigOptions, add_force, output_file, positive_int, run_tool, seed_number
from mae_toolkit.codebook.kmeans import kmeans, squared_distances
from mae_toolkit.codebook.patches import build_codebook_target, collect_training_patches
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.models.targets.codebook_target import find_nearest
from mae_toolkit.outputs import check_output, is_own_weights, weights_mark

import torch
from safetensors.torch import save

TOOL = 'make_codebook'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', required=True, type=output_file, help='file for the codebook, .safetensors')
    parser.add_argument('--codes', type=positive_int, help="centers; else the target's num_codes, or 512")
    parser.add_argument('--images', type=positive_int, default=10_000, help='maximum number of images to read')
    parser.add_argument(
        '--patches', type=positive_int, default=200_000, help='maximum number of patches from all images together'
    )
    parser.add_argument('--rounds', type=positive_int, default=30, help='maximum number of rounds of k-means')
    parser.add_argument('--seed', type=seed_number, default=0, help='seed of the patches and of the first centers')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='device of k-means')
    add_force(parser)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if not args.out.endswith('.safetensors'):
        raise UserError(f'--out {args.out}: the name must end in .safetensors.')
    check_output(args.out, args.force, (args.config,), partial(is_own_weights, tool=TOOL))
    cfg = load_config(args.config, args.cfg_options)
    target = build_codebook_target(cfg)
    patches = collect_training_patches(cfg, target, args.images, args.patches, args.seed).to(args.device)
    centers = kmeans(patches, args.codes or target.channels, args.rounds, args.seed)
    codes = find_nearest(patches, centers)
    left = squared_distances(patches, centers, codes).mean() / (patches - patches.mean(0)).square().sum(1).mean()
    atomic_write(args.out, save({'centers': centers.cpu().contiguous()}, weights_mark(TOOL)))
    used = len(codes.unique())
    print(
        f'{len(patches)} patches of {target.stride} x {target.stride} pixels; {used} of {len(centers)} centers are the '
        f'nearest of some, {left:.0%} of the variance is left; wrote {args.out}'
    )


if __name__ == '__main__':
    run_tool(main)
