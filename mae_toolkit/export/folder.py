"""Folders that describe themselves: weights, the config from which timm builds their model, and a model card."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.files import GRIDS, to_full_precision
from mae_toolkit.checkpoints.positions import table_grids
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.datasets.transforms import parse_size
from mae_toolkit.errors import UserError
from mae_toolkit.export.description import KEY, describe
from mae_toolkit.export.difference import Difference, compare_maps
from mae_toolkit.export.huggingface import compare_with_transformers, make_preprocessor_config, to_huggingface
from mae_toolkit.export.model_card import write_card
from mae_toolkit.export.preparation import Preparation, read_plain
from mae_toolkit.export.rounding import round_weights
from mae_toolkit.export.source import TrainedEncoder, require_config
from mae_toolkit.export.timm import LAST_NORM, build_timm_model, choose_pooling, find_timm_model, to_timm
from mae_toolkit.files import atomic_write
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.outputs import weights_mark
from mae_toolkit.protocols import HasIntermediates
from mae_toolkit.registry import build

TOOL = 'export_weights'
WEIGHTS, CONFIG, CARD = 'model.safetensors', 'config.json', 'README.md'
PREPROCESSOR = 'preprocessor_config.json'
FILES = (WEIGHTS, CONFIG, CARD, PREPROCESSOR)
# Of the greatest value of a map. Rounding to 16 bits changes less; other windows or norms change more.
TOLERANCE = 0.03
LOADING = """
import timm
from mae_toolkit import load_encoder

model = timm.create_model('local-dir:{folder}', pretrained=True).eval()  # one vector per image: (B, {features})
encoder, transform = load_encoder('{folder}')  # its maps, as detectors use them
maps = encoder(transform('photo.jpg')[None])
"""
LOADING_TRANSFORMERS = """
from transformers import AutoImageProcessor, AutoModel
from mae_toolkit import load_encoder

processor, model = AutoImageProcessor.from_pretrained('{folder}'), AutoModel.from_pretrained('{folder}').eval()
{note}encoder, transform = load_encoder('{folder}')  # its maps, as detectors use them
"""
MAE_NOTE = """# This is ViTMAEModel, which hides and shuffles patches, in evaluation, too. With all, in their order:
# transformers.ViTModel.from_pretrained('{folder}', add_pooling_layer=False)
"""


@torch.no_grad()
def export_timm_folder(
    found: TrainedEncoder, out: str | Path, half: bool = False, license: str | None = None
) -> Iterator[str]:
    """Write an encoder as a folder that ``timm.create_model('local-dir:FOLDER', pretrained=True)`` takes.

    Args:
        found: The checkpoint and the config of its training.
        out: The folder; created if needed.
        half: Write weights in float16.
        license: License of the weights; by default that of the weights it began with, where it is known.

    Yields:
        Lines for the user.

    Raises:
        UserError: If there is no config, or timm's model of the architecture gives other features than the encoder.
    """
    out, description = Path(out), describe(found, license)
    description['encoder'].pop('out_norms', None)  # which timm's model lacks
    preparation = read_plain(description['preparation'])
    state = round_weights(to_full_precision(to_timm(load_weights(found.checkpoint))), half)
    arch, given = find_timm_model(description['encoder'], state)
    if any(given.get(name) is False for name in LAST_NORM):  # for models that always have it, one was added
        state = {name: value for name, value in state.items() if not name.startswith('norm.')}
    network = build_timm_model(arch, state, **given).eval()
    encoder = build_downstream(description['encoder'], found.checkpoint)
    difference = compare_with_timm(network, encoder, _choose_size(given, encoder, preparation))
    if difference is not None and difference.relative > TOLERANCE:
        raise UserError(
            f"timm's {arch} gives other features than the encoder, up to {difference.greatest:.3g} of "
            f'{difference.reach:.3g}: it lacks something that the encoder has, such as windows or another norm; '
            '--format safetensors keeps all of it.'
        )
    config = make_timm_config(network, arch, given | choose_pooling(arch), preparation, description)
    atomic_write(out / WEIGHTS, save(state, metadata=make_metadata(arch, description, encoder)))
    atomic_write(out / CONFIG, json.dumps(config, indent=2) + '\n')
    loading = LOADING.format(folder=out.name, features=config['num_features'])
    atomic_write(out / CARD, write_card(arch, description, 'timm', loading))
    yield _describe_written(out, arch, state, found)
    if difference is not None:
        yield str(difference)
    yield f"Load it by timm.create_model('local-dir:{out}', pretrained=True) or mae_toolkit.load_encoder('{out}')."


def export_huggingface_folder(
    found: TrainedEncoder, out: str | Path, half: bool = False, license: str | None = None
) -> Iterator[str]:
    """Write an encoder, with MAE's decoder if it has that, as a folder that transformers' ``from_pretrained`` takes.

    Args:
        found: The checkpoint and the config of its training.
        out: The folder; created if needed.
        half: Write weights in float16.
        license: License of the weights; by default that of the weights it began with, where it is known.

    Yields:
        Lines for the user.

    Raises:
        UserError: If there is no config, or transformers has no model of the architecture.
    """
    out, description = Path(out), describe(found, license)
    preparation = read_plain(description['preparation'])
    encoder = build_downstream(description['encoder'], found.checkpoint)
    model = to_huggingface(load_weights(found.checkpoint), encoder, require_config(found))
    state = round_weights(to_full_precision(model.weights), half)
    config = dict(architectures=[model.name], **model.config) | {KEY: dict(description)}
    atomic_write(out / WEIGHTS, save(state, metadata=make_metadata(model.name, description, encoder)))
    atomic_write(out / CONFIG, json.dumps(config, indent=2) + '\n')
    atomic_write(out / PREPROCESSOR, json.dumps(make_preprocessor_config(preparation), indent=2) + '\n')
    mae = model.config['model_type'] == 'vit_mae'
    loading = LOADING_TRANSFORMERS.format(folder=out.name, note=MAE_NOTE.format(folder=out.name) if mae else '')
    atomic_write(out / CARD, write_card(model.name, description, 'transformers', loading))
    yield _describe_written(out, model.name, state, found)
    size = parse_size(description['encoder'].get('img_size') or _choose_size({}, encoder, preparation))
    difference = compare_with_transformers(out, encoder, size)
    yield 'transformers is not installed, so nothing was compared.' if difference is None else str(difference)
    yield f"Load it by transformers.AutoModel.from_pretrained('{out}') or mae_toolkit.load_encoder('{out}')."


def build_downstream(config: Mapping[str, Any], checkpoint: str | Path, prefix: str = 'encoder') -> Encoder:
    """Build the encoder of a config with the weights of a checkpoint, in evaluation mode."""
    encoder = build(Encoder, config)
    load_pretrained(encoder, checkpoint, prefix)
    return encoder.eval()


def make_timm_config(
    network: nn.Module, arch: str, given: Mapping[str, Any], preparation: Preparation, description: Mapping[str, Any]
) -> dict[str, Any]:
    """Make what timm reads from ``config.json``, with our description under a key of its own.

    Args:
        network: timm's model.
        arch: Its architecture.
        given: The arguments with which it is built.
        preparation: How images are prepared for it.
        description: What :func:`~mae_toolkit.export.description.describe` returns.
    """
    default: Any = network.default_cfg
    kept = {key: default.get(key) for key in ('first_conv', 'classifier', 'fixed_input_size', 'pool_size')}
    if kept['fixed_input_size'] or tuple(default['input_size'][1:]) != preparation.size:
        kept['pool_size'] = None
    pretrained = dict(num_classes=0, custom_load=False, license=description['license']) | kept | preparation.to_timm()
    model_args = dict(num_classes=0, in_chans=preparation.channels) | dict(given)
    return dict(
        architecture=arch,
        num_classes=0,
        num_features=network.num_features,
        num_prefix_tokens=getattr(network, 'num_prefix_tokens', 0),
        global_pool=given['global_pool'],
        model_args=model_args,
        pretrained_cfg={key: value for key, value in pretrained.items() if value is not None or key in kept},
    ) | {KEY: dict(description)}


def make_metadata(arch: str, description: Mapping[str, Any], encoder: Encoder) -> dict[str, str]:
    """Make the metadata of a file of safetensors, which holds texts alone.

    Args:
        arch: Name of the architecture.
        description: What :func:`~mae_toolkit.export.description.describe` returns.
        encoder: The encoder, for the rows and columns of its table of positions.
    """
    grids = {f'encoder.{name}': list(grid) for name, grid in table_grids(encoder).items()}
    about = {key: value for key, value in description.items() if key not in ('encoder', 'preparation')}
    texts = {key: value if isinstance(value, str) else json.dumps(value) for key, value in about.items() if value}
    positions = {GRIDS: json.dumps(grids)} if grids else {}
    return {'format': 'pt', 'architecture': arch, **texts, **positions, **weights_mark(TOOL)}


def compare_with_timm(network: nn.Module, encoder: Encoder, size: tuple[int, int]) -> Difference | None:
    """Compare the last map of timm's model and of an encoder on noise.

    Args:
        network: timm's model.
        encoder: The encoder, whose norms of outputs are taken off, as only ours has them.
        size: Rows and columns of the images.

    Returns:
        The difference; None if timm's model cannot return its maps.
    """
    last = max(encoder.out_indices)
    if last < 0 or not isinstance(network, HasIntermediates):
        return None
    encoder.out_norms = nn.ModuleList(nn.Identity() for _ in encoder.out_channels)
    imgs = torch.randn(2, encoder.in_chans, *size, generator=torch.Generator().manual_seed(0))
    norm = 'body.norm.weight' in encoder.state_dict()
    (found,) = network.forward_intermediates(imgs, indices=[last], norm=norm, intermediates_only=True)
    return compare_maps([found], [encoder(imgs)[-1]])


def _describe_written(out: Path, name: str, state: Mapping[str, Tensor], found: TrainedEncoder) -> str:
    """Say what was written, and of which checkpoint: the best one of a run may be that of its start."""
    step = '' if found.iteration is None else f' of step {found.iteration}'
    size = sum(tensor.numel() for tensor in state.values()) / 1e6
    return f'wrote {out}: {name}, {size:.2f} M numbers from {found.checkpoint.name}{step}'


def _choose_size(given: Mapping[str, Any], encoder: Encoder, preparation: Preparation) -> tuple[int, int]:
    """Choose rows and columns of images for a comparison: those of the positions, else up to seven mask units."""
    if 'img_size' in given:
        return parse_size(given['img_size'])
    unit = encoder.mask_unit
    rows, columns = (unit * min(7, max(1, side // unit)) for side in preparation.size)
    return rows, columns
