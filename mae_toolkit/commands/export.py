"""``mae-toolkit export``: write the encoder of a run for timm and other programs."""

import argparse
from functools import partial
from pathlib import Path

from mae_toolkit.cli import add_config_options, add_force, output_file, positive_int
from mae_toolkit.errors import UserError
from mae_toolkit.outputs import check_output, check_output_folder, is_own_weights

FORMATS = ('timm', 'transformers', 'mmdet', 'mmseg', 'mmpretrain', 'safetensors', 'torch-export', 'onnx')
DYNAMIC = ('none', 'batch', 'size')
DESCRIPTION = """Write the encoder of a run for timm, OpenMMLab and others.

mae-toolkit export runs/photos --out encoder
    a folder: timm.create_model('local-dir:encoder', pretrained=True), mae_toolkit.load_encoder('encoder')
mae-toolkit export runs/photos/epoch_100.pth --out encoder.safetensors
    a file of weights alone

--format timm         timm's names: timm.create_model(ARCH, num_classes=0, ...).load_state_dict(load_file(FILE))
         transformers a folder for from_pretrained of Hugging Face's ViTMAE, ViT, Swin, ConvNext and ConvNextV2
         mmdet, mmseg names of their ResNet and SwinTransformer: init_cfg=dict(type='Pretrained', checkpoint=FILE)
         mmpretrain   names of its ConvNeXt, VisionTransformer, SwinTransformer and ResNet
         safetensors  our names, the encoder alone: init_cfg=dict(type='Pretrained', checkpoint=FILE, prefix='encoder')
         torch-export, onnx   the network itself, for whole images

Where the config of the training is known (it is that of the run, of the checkpoint, or --config) the result is loaded
into its architecture, and the greatest difference of its maps to ours is printed. --half writes weights in 16 bits,
half the size; they are rounded, also where they are loaded in 32 again.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of the command."""
    parser.add_argument('source', metavar='RUN|CHECKPOINT', help='folder of a run, or a training checkpoint')
    parser.add_argument(
        '--out', required=True, type=_output, help='folder, or a file ending in .safetensors, .pth, .pt2 or .onnx'
    )
    parser.add_argument('--format', choices=FORMATS, default='timm')
    parser.add_argument('--config', help='config of the training, if neither run nor checkpoint has it')
    parser.add_argument(
        '--size',
        type=positive_int,
        nargs=2,
        metavar=('ROWS', 'COLUMNS'),
        help="pixels of the images that are compared, and of a graph; the encoder's img_size or 224",
    )
    parser.add_argument('--half', action='store_true', help='weights in float16')
    parser.add_argument('--dynamic', choices=DYNAMIC, default='batch', help='what may differ when a graph runs')
    parser.add_argument('--license', help='license of the weights, for the model card of a folder: cc-by-4.0')
    add_force(parser)
    add_config_options(parser)


def run(args: argparse.Namespace) -> None:
    """Write the encoder, and print what was written."""
    from mae_toolkit.apis import export_encoder, load_config

    _check_target(args)
    cfg = load_config(args.config, args.cfg_options) if args.config else None
    size = tuple(args.size) if args.size else None
    for line in export_encoder(
        args.source, args.out, args.format, cfg, size, args.dynamic, args.half, license=args.license
    ):
        print(line)


def _output(text: str) -> str:
    from mae_toolkit.export.export import is_folder

    if not text:
        raise argparse.ArgumentTypeError('it is empty: name a folder or a file')
    return text if is_folder(text) else output_file(text)


def _check_target(args: argparse.Namespace) -> None:
    """Refuse to replace what this program did not write, and to write into the folder of a run.

    Weights of an export are what such a folder is taken for from then on, also after further training.
    """
    from mae_toolkit.checkpoints.run_folder import is_run
    from mae_toolkit.export.export import NAMES, OTHER_NAME, TOOL, is_folder
    from mae_toolkit.export.folder import CARD, FILES
    from mae_toolkit.export.model_card import MARK

    out = Path(args.out)
    if is_folder(args.out) and is_run(out) and any(out.glob('*.py')):
        raise UserError(f'--out {out} is the folder of a run: choose another, such as {out / "encoder"}.')
    if not is_folder(args.out):
        check_output(args.out, args.force, (args.source, args.config), partial(is_own_weights, tool=TOOL))
        return

    def is_own(path: Path) -> bool:
        card = path.with_name(CARD)  # it lies beside everything that this program writes into a folder
        return card.is_file() and MARK in card.read_text(errors='replace')

    check_output_folder(args.out, {*FILES, *NAMES.values(), OTHER_NAME}, args.force, is_own)
