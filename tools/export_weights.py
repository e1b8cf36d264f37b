"""Write the encoder of a checkpoint in timm's layout: tools/export_weights.py CHECKPOINT --out encoder.safetensors

``timm.create_model(ARCH, num_classes=0, ...).load_state_dict(load_file('encoder.safetensors'))`` accepts it. With
--config it is tried, with the architecture and the arguments of the config.
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save

from mae_toolkit import weights
from mae_toolkit.apis import ConfigOptions, load_config, output_file, run_tool
from mae_toolkit.engine.checkpoint import load_foreign
from mae_toolkit.engine.files import atomic_write
from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders.timm_body import timm_arguments


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='training checkpoint, or what import_weights.py wrote')
    parser.add_argument('--out', required=True, type=output_file, help='.safetensors or .pth')
    parser.add_argument('--config', help='try the result with the architecture of this config')
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main():
    args = parse_args()
    if Path(args.out).suffix not in ('.pth', '.safetensors'):
        raise UserError(f'--out {args.out}: the name ends in .safetensors or .pth.')
    state = weights.to_timm(load_foreign(args.checkpoint))
    state = weights.full_precision(state)
    if args.config:
        encoder = load_config(args.config, args.cfg_options).model.encoder
        arch, given = timm_arguments(encoder)
        weights.timm_model(arch, state, **given)
        print(f'timm accepts the weights as {arch}.')
    if Path(args.out).suffix == '.safetensors':
        atomic_write(args.out, save(state, metadata={'format': 'pt'}))
    else:
        atomic_write(args.out, lambda file: torch.save(state, file))
    print(f'wrote {args.out}: {len(state)} tensors, {sum(t.numel() for t in state.values()) / 1e6:.2f} M numbers')


if __name__ == '__main__':
    run_tool(main)
