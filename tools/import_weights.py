"""Read a checkpoint of any origin: tools/import_weights.py mae_pretrain_vit_base_full.pth CONFIG --out mae_vit-b.pth

It becomes a checkpoint of this toolkit, to start from (load_from) or to reconstruct with:

  MAE, CrossMAE, GreenMIM, Hiera MAE, SimMIM,   the whole model if the config has the same decoder, else the encoder
  SparK, FCMAE; mmpretrain's MAE and SimMIM
  ConvNeXt, ConvNeXt V2, Swin, Swin V2;         the encoder, without the classifier
  mmpretrain's MaskFeat; any model of timm
  this toolkit                                  the whole model, for another image or window size

What was loaded, resized, new and dropped is printed; a key that is none of the four is an error. Nothing in the file is
executed.
"""

import argparse
import json
from functools import partial
from pathlib import Path

from mae_toolkit.apis import build_model, load_config
from mae_toolkit.checkpoints.channels import RULES
from mae_toolkit.checkpoints.files import GRIDS, to_full_precision
from mae_toolkit.checkpoints.load import load_file
from mae_toolkit.checkpoints.positions import table_grids
from mae_toolkit.cli import ConfigOptions, add_force, output_file, run_tool
from mae_toolkit.errors import UserError
from mae_toolkit.files import atomic_write
from mae_toolkit.outputs import check_output, is_own_weights, weights_mark

import torch
from safetensors.torch import save

TOOL = 'import_weights'


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='[FORMAT:]FILE[#PART] to read, see docs/weights.md')
    parser.add_argument('config', help='config whose model receives the weights')
    parser.add_argument('--out', required=True, type=output_file, help='file to write, .pth or .safetensors')
    parser.add_argument('--objective', default='pixel', help='objective that receives the prediction head')
    parser.add_argument(
        '--grid',
        nargs=2,
        type=int,
        metavar=('ROWS', 'COLUMNS'),
        help='grid of patches of the stored positions, if it is not square and the file does not state it',
    )
    parser.add_argument(
        '--channels-rule',
        choices=RULES,
        help='how weights of images with other channels are adapted; they are refused if it is left out',
    )
    add_force(parser)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    if Path(args.out).suffix not in ('.pth', '.safetensors'):
        raise UserError(f'--out {args.out}: the name must end in .pth or .safetensors.')
    check_output(args.out, args.force, (args.checkpoint, args.config), partial(is_own_weights, tool=TOOL))
    model = build_model(load_config(args.config, args.cfg_options))
    report = load_file(model, args.checkpoint, args.objective, args.grid, args.channels_rule)
    full = to_full_precision(model.state_dict())
    meta = {GRIDS: {name: list(grid) for name, grid in table_grids(model).items()}}
    if Path(args.out).suffix == '.safetensors':
        atomic_write(args.out, save(full, {key: json.dumps(value) for key, value in meta.items()} | weights_mark(TOOL)))
    else:
        atomic_write(args.out, lambda file: torch.save({'state_dict': full, 'meta': meta | weights_mark(TOOL)}, file))
    print(f'{report}\nwrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
