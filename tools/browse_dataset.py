"""Look at what the model will be given: tools/browse_dataset.py CONFIG --out browse.png"""

import argparse

from mae_toolkit.apis import ConfigOptions, load_config, output_file, positive, run_tool
from mae_toolkit.errors import UserError, told
from mae_toolkit.registry import DATASETS
from mae_toolkit.visualization import picture_grid, to_rgb
from mae_toolkit.visualization.reconstruction import display_range


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('config', help='config file')
    parser.add_argument('--out', default='browse.png', type=output_file, help='the picture')
    parser.add_argument('--val', action='store_true', help='the held-out images instead of the training images')
    parser.add_argument('--rows', type=positive, default=6, help='images')
    parser.add_argument('--columns', type=positive, default=6, help='epochs: other random crops of the same images')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main():
    args = parse_args()
    cfg = load_config(args.config, args.cfg_options)
    loader = cfg.get('val_dataloader') if args.val else cfg.train_dataloader
    if loader is None:
        raise UserError('The config has no val_dataloader: leave out --val.')
    with told('The dataset'):
        dataset = DATASETS.build(loader.dataset)
    count = min(args.rows, len(dataset))
    rows = []
    for i in range(count):
        items = [dataset[epoch, i * len(dataset) // count]['img'].numpy() for epoch in range(args.columns)]
        rows.append([to_rgb(img, *display_range(img)) for img in items])
    picture_grid(rows, [f'epoch {epoch}' for epoch in range(args.columns)], side=160).save(args.out)
    print(f'{len(dataset)} images per epoch; wrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
