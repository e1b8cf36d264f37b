"""Read weights of others: tools/import_weights.py mae_pretrain_vit_base_full.pth CONFIG --out mae_vit-b.pth

Official MAE checkpoints (with or without their decoder) and timm's become a checkpoint of this toolkit, to start from
(load_from) or to reconstruct with. One of this toolkit becomes one for another image size. Nothing in the file is
executed.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save

from mae_toolkit import weights
from mae_toolkit.apis import ConfigOptions, build_model, load_config, output_file, run_tool
from mae_toolkit.engine.checkpoint import load_foreign
from mae_toolkit.engine.files import atomic_write
from mae_toolkit.errors import UserError


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='.pth or .safetensors')
    parser.add_argument('config', help='config whose model receives the weights')
    parser.add_argument('--out', required=True, type=output_file, help='.pth or .safetensors')
    parser.add_argument('--objective', default='pixel', help='objective that receives the prediction head of MAE')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main():
    args = parse_args()
    if Path(args.out).suffix not in ('.pth', '.safetensors'):
        raise UserError(f'--out {args.out}: the name ends in .pth or .safetensors.')
    model = build_model(load_config(args.config, args.cfg_options))
    state = load_foreign(args.checkpoint)
    renamed, lacking, resized = weights.under_our_names(state, model, args.objective)
    head = tuple(weights.ENCODER + name for name in ('head.', 'head_dist.', 'fc_norm.', 'pre_logits.'))
    report = weights.load(model, renamed, may_lack=lacking, may_drop=head, resized=resized)
    full = weights.full_precision(model.state_dict())
    if Path(args.out).suffix == '.safetensors':
        atomic_write(args.out, save(full))
    else:
        atomic_write(args.out, lambda file: torch.save({'state_dict': full, 'meta': {}}, file))
    print(f'{report}\nwrote {args.out}')


if __name__ == '__main__':
    run_tool(main)
