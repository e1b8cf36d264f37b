"""Write the encoder of a checkpoint for other programs: tools/export_weights.py CHECKPOINT --out encoder.safetensors

--format timm         timm's names: timm.create_model(ARCH, num_classes=0, ...).load_state_dict(load_file(FILE))
         mmdet, mmseg names of their ResNet and SwinTransformer: init_cfg=dict(type='Pretrained', checkpoint=FILE)
         mmpretrain   names of its ConvNeXt, VisionTransformer, SwinTransformer and ResNet
         safetensors  our names, the encoder alone: init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='encoder')
         torch-export, onnx   the network itself, for whole images; needs --config

With --config the result is loaded into the architecture of the config, and the greatest difference of its maps to ours
is printed. --half writes weights in 16 bits, half the size; they are rounded, also where they are loaded in 32 again.
"""

import argparse
from functools import partial

from mae_toolkit.apis import load_config
from mae_toolkit.cli import ConfigOptions, add_force, output_file, run_tool
from mae_toolkit.export.export import FORMATS, TOOL, export
from mae_toolkit.export.graphs import DYNAMIC
from mae_toolkit.outputs import check_output, is_own_weights


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('checkpoint', help='training checkpoint, or what import_weights.py wrote')
    parser.add_argument('--out', required=True, type=output_file, help='.safetensors or .pth; .pt2 or .onnx for graphs')
    parser.add_argument('--format', choices=FORMATS, default='timm')
    parser.add_argument('--config', help='compare the result with the architecture of this config')
    parser.add_argument(
        '--size',
        type=int,
        nargs=2,
        metavar=('ROWS', 'COLUMNS'),
        help="pixels of the images that are compared, and of a graph; the encoder's img_size or 224",
    )
    parser.add_argument('--half', action='store_true', help='weights in float16')
    parser.add_argument('--dynamic', choices=list(DYNAMIC), default='batch', help='what may differ when a graph runs')
    add_force(parser)
    parser.add_argument('--cfg-options', nargs='+', action=ConfigOptions, default={}, metavar='KEY=VALUE')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    check_output(args.out, args.force, (args.checkpoint, args.config), partial(is_own_weights, tool=TOOL))
    cfg = load_config(args.config, args.cfg_options) if args.config else None
    for line in export(args.checkpoint, args.out, args.format, cfg, args.size, args.dynamic, args.half):
        print(line)


if __name__ == '__main__':
    run_tool(main)
