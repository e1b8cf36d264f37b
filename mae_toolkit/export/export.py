"""Writing encoders for other programs, each compared with what our own says."""

import json
from pathlib import Path

import torch
from safetensors.torch import save

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.files import GRIDS, load_foreign, load_with_grids
from mae_toolkit.checkpoints.load import full_precision, timm_model, to_timm
from mae_toolkit.datasets.transforms import parse_size
from mae_toolkit.errors import UserError
from mae_toolkit.export.difference import difference
from mae_toolkit.export.graphs import GRAPHS, write_graph
from mae_toolkit.export.layouts import LAYOUTS, renamed
from mae_toolkit.export.networks import as_file, backbone_config, build_backbone, load_strictly, with_all_stages
from mae_toolkit.files import atomic_write
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.encoders.timm_body import timm_arguments
from mae_toolkit.outputs import weights_mark
from mae_toolkit.printing import format_count
from mae_toolkit.registry import build

FORMATS = ('timm', *LAYOUTS, 'safetensors', *GRAPHS)
SUFFIXES = {'torch-export': ('.pt2',), 'onnx': ('.onnx',), 'safetensors': ('.safetensors',)}
PREFIX = 'encoder.'
TOOL = 'export_weights'
FREE = {'none': 'nothing', 'batch': 'their number', 'size': 'their number, rows and columns'}


def export(checkpoint, out, layout='timm', cfg=None, size=None, dynamic='batch', half=False):
    """Write the encoder of a checkpoint.

    Args:
        checkpoint (str | Path): A training checkpoint.
        out (str | Path): The file.
        layout (str): One of ``FORMATS``.
        cfg (Config | None): Has the architecture, with which the result is compared; graphs need it.
        size (tuple[int, int] | None): Pixels of the images on which they are compared, and of a graph; by default those
            of the encoder's positions, or 224.
        dynamic (str): Of a graph, see :func:`write_graph`.
        half (bool): Write weights in float16; not of a graph.

    Yields:
        str: Lines for the user.

    Raises:
        UserError: If the suffix or the weights do not fit the format, or a weight is too large for float16.
    """
    suffixes = SUFFIXES.get(layout, ('.pth', '.safetensors'))
    if Path(out).suffix not in suffixes:
        raise UserError(f'--out {out}: the name ends in {" or ".join(suffixes)} for --format {layout}.')
    if cfg is not None and 'encoder' not in cfg.model:
        raise UserError(
            f'The config, of a {cfg.model.get("type")}, has no model.encoder: give --config that of the pretraining.'
        )
    size = parse_size(size or (cfg.model.encoder.get('img_size') if cfg else None) or 224)
    if layout in GRAPHS:
        if half:
            raise UserError(f'--half is for weights, and --format {layout} writes a network: leave one of them out.')
        if cfg is None:
            raise UserError(f'--format {layout} writes the network itself: give --config, which has it.')
        encoder = our_encoder(cfg, checkpoint)
        told = write_graph(encoder, out, layout, size, dynamic)
        shape = f'{encoder.in_chans} x {size[0]} x {size[1]}'
        yield f'wrote {out}: {Path(out).stat().st_size / 1e6:.2f} MB, for images of {shape}; {FREE[dynamic]} may differ'
        yield str(told)
        return
    if layout == 'safetensors':
        state, grids = _own(checkpoint)
        yield from _write(_rounded(state, half), out, grids)
        yield from _tried_by_us(out, cfg, checkpoint, size)
        return
    state = _rounded(full_precision(to_timm(load_foreign(checkpoint))), half)
    if layout == 'timm':
        yield from _tried_by_timm(state, cfg, checkpoint, size)
    else:
        state = _rounded(full_precision(renamed(state, layout)), half)
        yield from _tried_by_them(state, layout, cfg, checkpoint, size)
        state = as_file(state, layout)
    yield from _write(state, out)


def our_encoder(cfg, checkpoint):
    """The encoder of a config with the weights of a training checkpoint, in evaluation mode."""
    config = {k: v for k, v in cfg.model.encoder.items() if k != 'init_cfg'}
    encoder = build(Encoder, config)
    load_pretrained(encoder, checkpoint, 'encoder')
    return encoder.eval()


@torch.no_grad()
def _tried_by_us(out, cfg, checkpoint, size):
    if cfg is None:
        return
    encoder = our_encoder(cfg, checkpoint)
    imgs = _images(encoder, size)
    yield str(difference(our_encoder(cfg, out)(imgs), encoder(imgs)))


@torch.no_grad()
def _tried_by_timm(state, cfg, checkpoint, size):
    if cfg is None:
        return
    arch, given = timm_arguments(cfg.model.encoder)
    network = timm_model(arch, state, **given).eval()
    yield f'timm accepts the weights as {arch}.'
    encoder = our_encoder(cfg, checkpoint)
    last = max(encoder.out_indices)
    if last < 0 or not hasattr(network, 'forward_intermediates'):
        return
    norm = 'body.norm.weight' in encoder.state_dict()
    imgs = _images(encoder, size)
    (found,) = network.forward_intermediates(imgs, indices=[last], norm=norm, intermediates_only=True)
    yield compare_last_map(encoder, imgs, found)


@torch.no_grad()
def _tried_by_them(state, layout, cfg, checkpoint, size):
    config = backbone_config(state, layout)
    if config is None:
        yield f'{layout}: the names are backbone_config; no config of backbone_config is known for this variant.'
        return
    yield f'{layout}: backbone={with_all_stages(config)}'
    network = build_backbone(config, layout)
    if network is None:
        yield f'{layout} is not installed, so nothing was compared.'
        return
    load_strictly(network, state)
    yield f'{layout} accepts the weights, none missing and none too many.'
    if cfg is not None and config['out_indices']:
        encoder = our_encoder(cfg, checkpoint)
        imgs = _images(encoder, size)
        yield compare_last_map(encoder, imgs, network(imgs)[-1])


def _images(encoder, size):
    return torch.randn(2, encoder.in_chans, *size, generator=torch.Generator().manual_seed(0))


def compare_last_map(encoder, imgs, found):
    """How far another network's last map is from ours; norms that are ours alone are left out."""
    encoder.out_norms = torch.nn.ModuleList(torch.nn.Identity() for _ in encoder.out_channels)
    return str(difference([found], [encoder(imgs)[-1]]))


def _own(checkpoint):
    """The encoder alone, under our names, and as text for which grids its positions are, if the checkpoint says so."""
    found, grids = load_with_grids(checkpoint)
    state = {k: v for k, v in found.items() if k.startswith(PREFIX)}
    grids = {k: list(v) for k, v in grids.items() if k.startswith(PREFIX)}
    if not state:
        raise UserError(f'{checkpoint} holds no encoder: no name begins with {PREFIX!r}, as after pretraining.')
    return full_precision(state), {GRIDS: json.dumps(grids)} if grids else {}


def _rounded(state, half):
    """Weights in float16, if that is asked for and they fit."""
    if not half:
        return state
    found = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    if large := [name for name, value in found.items() if not value.isfinite().all()]:
        raise UserError(
            f'{format_count(len(large), "weight")} cannot be held in float16, the first {large[0]}: write them without '
            '--half.'
        )
    return found


def _write(state, out, metadata=None):
    if Path(out).suffix == '.safetensors':
        metadata = {'format': 'pt'} | (metadata or {}) | weights_mark(TOOL)
        atomic_write(out, save(state, metadata=metadata))
    else:
        atomic_write(out, lambda file: torch.save(state, file))
    yield f'wrote {out}: {len(state)} tensors, {sum(t.numel() for t in state.values()) / 1e6:.2f} M numbers'
