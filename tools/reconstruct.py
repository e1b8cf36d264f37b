"""Show what a model makes of hidden parts: tools/reconstruct.py CONFIG CHECKPOINT IMAGES... --out DIR

For each image, of any size, one picture: the original, the masked image, the prediction, both pasted together, and the
error. Under a target that is normalised per patch, the prediction gets the statistics of the visible patches around,
which is all that the model knows; a further column uses the image's own statistics, and says so.
"""

import argparse
import sys
from pathlib import Path

import torch
from tqdm import tqdm

from mae_toolkit.apis import ConfigOptions, device, load_config, model_from_checkpoint, positive, run_tool
from mae_toolkit.datasets import BrokenImage, Resize, read_image
from mae_toolkit.datasets.image_dataset import to_channels
from mae_toolkit.datasets.image_files import find_images
from mae_toolkit.errors import UserError
from mae_toolkit.visualization import picture_grid, reconstruct
from mae_toolkit.visualization.reconstruction import pictures


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('config', help='config file')
    parser.add_argument('checkpoint', help='training checkpoint, or what import_weights.py wrote')
    parser.add_argument('images', nargs='+', help='files, folders, or patterns such as "photos/**/*.jpg"')
    parser.add_argument('--out', required=True, help='folder for the pictures')
    parser.add_argument('--short-side', type=positive, help='resize so that the shorter side has so many pixels')
    parser.add_argument('--show', type=positive, help='pixels of the longer side of each picture; else its own size')
    parser.add_argument('--seed', type=int, default=0, help='of the masks')
    parser.add_argument('--device', type=device, default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    images = find_images(args.images)
    model = model_from_checkpoint(cfg, args.checkpoint).to(args.device)
    out = Path(args.out)
    broken = []
    for i, path in enumerate(tqdm(images, unit='image')):
        try:
            image = read_image(path)
        except BrokenImage as error:
            broken.append(error)
            continue
        image = Resize(args.short_side)(image, None) if args.short_side else image
        image = to_channels(image, model.encoder.in_chans, str(path))
        batch = {'imgs': torch.from_numpy(image.transpose(2, 0, 1).copy())[None]}
        torch.manual_seed(args.seed + i)
        result = reconstruct(model, model.data_preprocessor(batch)['imgs'])
        columns = pictures(result, 0, model.data_preprocessor)
        out.mkdir(parents=True, exist_ok=True)
        picture_grid([list(columns.values())], list(columns), args.show).save(out / f'{i:03d}_{path.stem}.png')
    for error in broken:
        print(f'skipped {error.path}: {error.reason}', file=sys.stderr)
    if len(broken) == len(images):
        raise UserError(f'None of {len(images)} images could be read, from {broken[0]} on.')
    print(f'wrote {len(images) - len(broken)} pictures to {out}')


if __name__ == '__main__':
    run_tool(main)
