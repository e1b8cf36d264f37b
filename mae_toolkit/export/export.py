"""Writing encoders for other programs, and comparing each with our own."""

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import torch
from mmengine.config import Config
from safetensors.torch import save
from torch import Tensor, nn

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.files import GRIDS, to_full_precision
from mae_toolkit.checkpoints.weights import load_weights, load_weights_and_grids
from mae_toolkit.datasets.transforms import parse_size
from mae_toolkit.errors import UserError
from mae_toolkit.export.backbones import as_file, backbone_config, build_backbone, load_strictly, with_all_stages
from mae_toolkit.export.description import describe
from mae_toolkit.export.difference import compare_maps
from mae_toolkit.export.folder import CARD, TOOL
from mae_toolkit.export.graphs import GRAPHS, write_graph
from mae_toolkit.export.huggingface_folder import export_huggingface_folder
from mae_toolkit.export.model_card import write_card
from mae_toolkit.export.openmmlab import LAYOUTS, to_openmmlab
from mae_toolkit.export.rounding import round_weights
from mae_toolkit.export.source import TrainedEncoder, find_trained
from mae_toolkit.export.timm import build_timm_model, to_timm
from mae_toolkit.export.timm_folder import export_timm_folder
from mae_toolkit.files import atomic_write
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.encoders.timm_body import find_timm_arguments
from mae_toolkit.outputs import weights_mark
from mae_toolkit.printing import format_count
from mae_toolkit.protocols import HasIntermediates
from mae_toolkit.registry import build

FORMATS = ('timm', 'transformers', *LAYOUTS, 'safetensors', *GRAPHS)
SUFFIXES = {'torch-export': ('.pt2',), 'onnx': ('.onnx',), 'safetensors': ('.safetensors',)}
FILE_SUFFIXES = ('.pth', '.pt', '.bin', '.safetensors', '.pt2', '.onnx')
NAMES = {'safetensors': 'encoder.safetensors', 'torch-export': 'encoder.pt2', 'onnx': 'encoder.onnx'}
OTHER_NAME = 'encoder.pth'
PREFIX = 'encoder.'
FREE = {'none': 'nothing', 'batch': 'their number', 'size': 'their number, rows and columns'}

Size = tuple[int, int]  # rows and columns in pixels


def export(
    source: str | Path,
    out: str | Path,
    layout: str = 'timm',
    cfg: Config | None = None,
    size: int | Size | None = None,
    dynamic: str = 'batch',
    half: bool = False,
    license: str | None = None,
) -> Iterator[str]:
    """Write the encoder of a run or a checkpoint.

    Args:
        source: Folder of a run, or a training checkpoint.
        out: The file to write, or a folder, which describes itself.
        layout: One of ``FORMATS``.
        cfg: The config of the pretraining, with whose architecture the result is compared; graphs need it. By default
            that of the run, and for a folder also the one that the checkpoint holds.
        size: Pixels of the images on which they are compared, and of a graph; by default those of the encoder's
            positions, or 224.
        dynamic: What may differ when a graph runs, see :func:`~mae_toolkit.export.graphs.write_graph`.
        half: Write weights in float16; not possible for a graph.
        license: License of the weights, for a folder; by default that of the weights it began with, where it is known.

    Yields:
        Lines for the user.

    Raises:
        UserError: If the suffix or the weights do not fit the format, or a weight is too large for float16.
    """
    if is_folder(out):
        yield from _export_folder(find_trained(source, cfg), Path(out), layout, size, dynamic, half, license)
        return
    if layout == 'transformers':
        raise UserError(
            f'--format transformers writes a folder, for which --out {out} is no name: leave its suffix out.'
        )
    found = find_trained(source, cfg) if Path(source).is_dir() else TrainedEncoder(Path(source), cfg)
    checkpoint, cfg = found.checkpoint, found.cfg
    suffixes = SUFFIXES.get(layout, ('.pth', '.safetensors'))
    if Path(out).suffix not in suffixes:
        raise UserError(f'--out {out}: the name must end in {" or ".join(suffixes)} for --format {layout}.')
    if cfg is not None and 'encoder' not in cfg.model:
        raise UserError(
            f'The config, of a {cfg.model.get("type")}, has no model.encoder: give --config that of the pretraining.'
        )
    pixels: Size = parse_size(size or (cfg.model.encoder.get('img_size') if cfg else None) or 224)
    if layout in GRAPHS:
        yield from _export_graph(checkpoint, out, layout, cfg, pixels, dynamic, half)
    elif layout == 'safetensors':
        yield from _export_ours(checkpoint, out, cfg, pixels, half)
    else:
        yield from _export_renamed(checkpoint, out, layout, cfg, pixels, half)


def is_folder(out: str | Path) -> bool:
    """Tell whether an output is a folder: its name has not the suffix of a file of weights."""
    return Path(out).suffix not in FILE_SUFFIXES


def build_encoder(cfg: Config, checkpoint: str | Path) -> Encoder:
    """Build the encoder of a config with the weights of a training checkpoint, in evaluation mode."""
    config = {k: v for k, v in cfg.model.encoder.items() if k != 'init_cfg'}
    encoder = build(Encoder, config)
    load_pretrained(encoder, checkpoint, 'encoder')
    return encoder.eval()


def compare_last_map(encoder: Encoder, imgs: Tensor, found: Tensor) -> str:
    """Say how far another network's last map is from the encoder's, without norms of outputs, which only ours has."""
    encoder.out_norms = nn.ModuleList(nn.Identity() for _ in encoder.out_channels)
    return str(compare_maps([found], [encoder(imgs)[-1]]))


def _export_folder(
    found: TrainedEncoder,
    out: Path,
    layout: str,
    size: int | Size | None,
    dynamic: str,
    half: bool,
    license: str | None,
) -> Iterator[str]:
    """Write a folder with a model card: as timm reads it, or with a file of another format."""
    if layout == 'timm':
        yield from export_timm_folder(found, out, half, license)
        return
    if layout == 'transformers':
        yield from export_huggingface_folder(found, out, half, license)
        return
    description, said = describe(found, license), []
    for line in export(found.checkpoint, out / NAMES.get(layout, OTHER_NAME), layout, found.cfg, size, dynamic, half):
        said.append(line)
        yield line
    title = f'{description["encoder"].get("arch") or description["encoder"]["type"]} for {layout}'
    atomic_write(
        out / CARD,
        write_card(title, description, layout, '\n'.join(f'# {line}' for line in said).replace(f'{out}/', '')),
    )


def _export_graph(
    checkpoint: str | Path, out: str | Path, layout: str, cfg: Config | None, size: Size, dynamic: str, half: bool
) -> Iterator[str]:
    if half:
        raise UserError(f'--half is for weights, and --format {layout} writes a network: leave one of them out.')
    if cfg is None:
        raise UserError(f'--format {layout} writes the network itself: give --config, which has it.')
    encoder = build_encoder(cfg, checkpoint)
    difference = write_graph(encoder, out, layout, size, dynamic)
    shape = f'{encoder.in_chans} x {size[0]} x {size[1]}'
    yield f'wrote {out}: {Path(out).stat().st_size / 1e6:.2f} MB, for images of {shape}; {FREE[dynamic]} may differ'
    yield str(difference)


@torch.no_grad()
def _export_ours(checkpoint: str | Path, out: str | Path, cfg: Config | None, size: Size, half: bool) -> Iterator[str]:
    """Write the encoder alone under our names, and for which grids its positions are, if the checkpoint says so."""
    found, grids = load_weights_and_grids(checkpoint)
    state = {k: v for k, v in found.items() if k.startswith(PREFIX)}
    if not state:
        raise UserError(f'{checkpoint} holds no encoder: no name begins with {PREFIX!r}, as after pretraining.')
    own_grids = {k: list(v) for k, v in grids.items() if k.startswith(PREFIX)}
    metadata = {GRIDS: json.dumps(own_grids)} if own_grids else {}
    yield _write(round_weights(to_full_precision(state), half), out, metadata)
    if cfg is not None:
        encoder = build_encoder(cfg, checkpoint)
        imgs = _images(encoder, size)
        yield str(compare_maps(build_encoder(cfg, out)(imgs), encoder(imgs)))


def _export_renamed(
    checkpoint: str | Path, out: str | Path, layout: str, cfg: Config | None, size: Size, half: bool
) -> Iterator[str]:
    state = round_weights(to_full_precision(to_timm(load_weights(checkpoint))), half)
    if layout == 'timm':
        yield from _try_in_timm(state, cfg, checkpoint, size)
    else:
        state = round_weights(to_full_precision(to_openmmlab(state, layout)), half)
        yield from _try_in_openmmlab(state, layout, cfg, checkpoint, size)
        state = as_file(state, layout)
    yield _write(state, out)


@torch.no_grad()
def _try_in_timm(state: Mapping[str, Tensor], cfg: Config | None, checkpoint: str | Path, size: Size) -> Iterator[str]:
    if cfg is None:
        return
    arch, given = find_timm_arguments(cfg.model.encoder)
    network, lacking = build_timm_model(arch, state, **given)
    yield f'timm accepts the weights as {arch}{_describe_lacking(lacking)}.'
    encoder = build_encoder(cfg, checkpoint)
    last = max(encoder.out_indices)
    if last < 0 or not isinstance(network, HasIntermediates):
        return
    norm = 'body.norm.weight' in encoder.state_dict()
    imgs = _images(encoder, size)
    (found,) = network.eval().forward_intermediates(imgs, indices=[last], norm=norm, intermediates_only=True)
    yield compare_last_map(encoder, imgs, found)


def _describe_lacking(lacking: Sequence[str]) -> str:
    """Say what of timm's model the weights of an encoder lack."""
    if not lacking:
        return ''
    return (
        f' by load_state_dict(..., strict=False): its {format_count(len(lacking), "tensor")} behind the levels of the '
        f'encoder, such as {lacking[0]}, are not in the file, and stay random'
    )


@torch.no_grad()
def _try_in_openmmlab(
    state: Mapping[str, Tensor], layout: str, cfg: Config | None, checkpoint: str | Path, size: Size
) -> Iterator[str]:
    config = backbone_config(state, layout)
    if config is None:
        yield f'{layout}: the names are those of {layout}; which of its configs has this variant is not known.'
        return
    yield f'{layout}: backbone={with_all_stages(config)}'
    network = build_backbone(config, layout)
    if network is None:
        yield f'{layout} is not installed, so nothing was compared.'
        return
    load_strictly(network, state)
    yield f'{layout} accepts the weights, none missing and none too many.'
    if cfg is not None and config['out_indices']:
        encoder = build_encoder(cfg, checkpoint)
        imgs = _images(encoder, size)
        yield compare_last_map(encoder, imgs, network(imgs)[-1])


def _images(encoder: Encoder, size: Size) -> Tensor:
    return torch.randn(2, encoder.in_chans, *size, generator=torch.Generator().manual_seed(0))


def _write(state: dict[str, Tensor], out: str | Path, metadata: Mapping[str, str] | None = None) -> str:
    """Write weights, and say what was written."""
    if Path(out).suffix == '.safetensors':
        atomic_write(out, save(state, metadata={'format': 'pt', **(metadata or {}), **weights_mark(TOOL)}))
    else:
        atomic_write(out, lambda file: torch.save(state, file))
    return f'wrote {out}: {len(state)} tensors, {sum(t.numel() for t in state.values()) / 1e6:.2f} M numbers'
