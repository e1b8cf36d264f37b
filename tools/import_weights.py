"""Read weights of others: tools/import_weights.py mae_pretrain_vit_base_full.pth CONFIG --out mae_vit-b.pth

A checkpoint of others becomes one of this toolkit, to start from (load_from) or to reconstruct with:

  MAE (official, mmpretrain)                     the whole model, or the encoder alone if the file holds no more
  SparK (ConvNeXt, ResNet), FCMAE, Hiera MAE,    the encoder, and the mask token where the encoder has one
  SimMIM (Swin, ViT), GreenMIM (official),
  SimMIM (Swin), MaskFeat (mmpretrain)
  ConvNeXt, ConvNeXt V2, Swin, Swin V2           the encoder, without the classifier
  (official), any of timm

One of this toolkit becomes one for another image or window size. What was loaded, resized, new and dropped is printed,
and a key that is none of these is an error. Nothing in the file is executed.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import save

from mae_toolkit.apis import build_model, load_config
from mae_toolkit.checkpoints.files import GRIDS, load_with_grids, to_full_precision
from mae_toolkit.checkpoints.load import load_any
from mae_toolkit.checkpoints.positions import table_grids
from mae_toolkit.cli import ConfigOptions, add_force, output_file, run_tool
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output, is_own_weights, weights_mark

TOOL = 'import_weights'


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='.pth or .safetensors')
    parser.add_argument('config', help='config whose model receives the weights')
    parser.add_argument('--out', required=True, type=output_file, help='.pth or .safetensors')
    parser.add_argument('--objective', default='pixel', help='objective that receives the prediction head of MAE')
    parser.add_argument(
        '--grid',
        nargs=2,
        type=int,
        metavar=('ROWS', 'COLUMNS'),
        help='patches for which positions are stored, where the file does not say it and they are no square',
    )
    add_force(parser)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main():
    args = parse_args()
    if Path(args.out).suffix not in ('.pth', '.safetensors'):
        raise UserError(f'--out {args.out}: the name ends in .pth or .safetensors.')
    check_output(args.out, args.force, (args.checkpoint, args.config), partial(is_own_weights, tool=TOOL))
    model = build_model(load_config(args.config, args.cfg_options))
    state, grids = load_with_grids(args.checkpoint)
    report = load_any(model, state, args.objective, args.grid, grids)
    full = to_full_precision(model.state_dict())
    meta = {GRIDS: {name: list(grid) for name, grid in table_grids(model).items()}}
    if Path(args.out).suffix == '.safetensors':
        atomic_write(args.out, save(full, {key: json.dumps(value) for key, value in meta.items()} | weights_mark(TOOL)))
    else:
        atomic_write(args.out, lambda file: torch.save({'state_dict': full, 'meta': meta | weights_mark(TOOL)}, file))
    print(f'{report}\nwrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
