"""Folders that describe themselves, as ``timm.create_model('local-dir:FOLDER', pretrained=True)`` takes them."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import timm
import torch
from torch import Tensor, nn

from mae_toolkit.checkpoints.files import to_full_precision
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.errors import UserError
from mae_toolkit.export.description import KEY, describe
from mae_toolkit.export.difference import Difference, compare_maps
from mae_toolkit.export.folder import (
    CARD,
    build_downstream,
    choose_size,
    describe_written,
    make_metadata,
    write_weights_and_config,
)
from mae_toolkit.export.model_card import write_card
from mae_toolkit.export.preparation import Preparation, read_plain
from mae_toolkit.export.rounding import round_weights
from mae_toolkit.export.source import TrainedEncoder
from mae_toolkit.export.timm import TimmModel, choose_timm_model, no_timm_model_error, to_timm
from mae_toolkit.files import atomic_write
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.printing import format_count
from mae_toolkit.protocols import HasIntermediates

# Of the greatest value of a map. Rounding to 16 bits changes less; other windows or norms change more.
TOLERANCE = 0.03
LOADING = """
import timm
from mae_toolkit import load_encoder

model = timm.create_model('local-dir:{folder}', pretrained=True).eval()  # one vector per image: (B, {features})
encoder, transform = load_encoder('{folder}')  # its maps, as detectors use them
maps = encoder(transform('photo.jpg')[None])
"""
LOADING_FEATURES = """
import timm
from mae_toolkit import load_encoder

model = timm.create_model('local-dir:{folder}', pretrained=True).eval()  # the maps of all levels
encoder, transform = load_encoder('{folder}')  # the same, as detectors use them
maps = model(transform('photo.jpg')[None])
vector = maps[-1].mean((2, 3))  # one per image: (B, {features})
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
    encoder = build_downstream(description['encoder'], found.checkpoint)
    weights = round_weights(to_full_precision(to_timm(load_weights(found.checkpoint))), half)
    model = choose_timm_model(description['encoder'], weights, max(encoder.out_indices))
    config = make_timm_config(model, preparation, description, encoder)
    metadata = make_metadata(model.arch, description, encoder)
    size = choose_size(model.arguments, encoder, preparation)
    if model.lacking:
        with TemporaryDirectory() as draft:
            write_weights_and_config(Path(draft), model.weights, config, metadata)
            difference = compare_features(draft, encoder, size)
    else:
        difference = compare_with_timm(model.network, encoder, size)
    check_difference(difference, model)
    write_weights_and_config(out, model.weights, config, metadata)
    loading = LOADING_FEATURES if model.lacking else LOADING
    loading = loading.format(folder=out.name, features=config['num_features'])
    atomic_write(out / CARD, write_card(model.arch, description, 'timm', loading))
    yield describe_written(out, model.arch, model.weights, found)
    if difference is not None:
        yield str(difference)
    yield from _describe_limits(model, preparation)
    yield f"Load it by timm.create_model('local-dir:{out}', pretrained=True) or mae_toolkit.load_encoder('{out}')."


def _describe_limits(model: TimmModel, preparation: Preparation) -> Iterator[str]:
    """Say in what timm's model or transform differ from the encoder and the training."""
    if model.lacking:
        yield (
            f"timm's {model.arch} has {format_count(len(model.lacking), 'tensor')} behind the levels of the encoder, "
            f'such as {model.lacking[0]}, which pretraining does not train. Its model of the folder returns the maps '
            'of the levels instead of one vector (features_only=True).'
        )
    rows, columns = preparation.size
    if rows != columns and preparation.short_side is not None:
        yield (
            f"timm's transform scales both sides of an image to {rows} x {columns} pixels, and the training scaled the "
            'shorter one: use the transform of load_encoder.'
        )


def make_timm_config(
    model: TimmModel, preparation: Preparation, description: Mapping[str, Any], encoder: Encoder
) -> dict[str, Any]:
    """Make what timm reads from ``config.json``, with our description under a key of its own.

    Args:
        model: timm's model.
        preparation: How images are prepared for it.
        description: What :func:`~mae_toolkit.export.description.describe` returns.
        encoder: Our encoder.
    """
    network: Any = model.network
    default, given = network.default_cfg, model.arguments
    kept = {key: default.get(key) for key in ('first_conv', 'classifier', 'fixed_input_size', 'pool_size')}
    if kept['fixed_input_size'] or tuple(default['input_size'][1:]) != preparation.size:
        kept['pool_size'] = None
    pretrained = dict(num_classes=0, custom_load=False, license=description['license']) | kept | preparation.to_timm()
    pooling = {key: given[key] for key in ('global_pool',) if key in given}  # not of a model that returns maps
    return dict(
        architecture=model.arch,
        num_classes=0,
        num_features=encoder.out_channels[-1] if model.lacking else network.num_features,
        num_prefix_tokens=getattr(network, 'num_prefix_tokens', 0),
        **pooling,
        model_args=dict(in_chans=preparation.channels) | given,
        pretrained_cfg={key: value for key, value in pretrained.items() if value is not None or key in kept},
    ) | {KEY: dict(description)}


def check_difference(difference: Difference | None, model: TimmModel) -> None:
    """Refuse a model of timm that gives other maps than the encoder.

    Raises:
        UserError: If it does, or it is unknown whether it does and timm's model has more than the encoder.
    """
    if model.lacking and (difference is None or difference.relative > TOLERANCE):
        raise no_timm_model_error(model.arch, model.lacking)
    if difference is not None and difference.relative > TOLERANCE:
        raise UserError(
            f"timm's {model.arch} gives other features than the encoder, up to {difference.greatest:.3g} of "
            f'{difference.reach:.3g}: it lacks something that the encoder has, such as windows or another norm; '
            '--format safetensors keeps all of it.'
        )


def compare_features(folder: str | Path, encoder: Encoder, size: tuple[int, int]) -> Difference | None:
    """Compare the last map that timm's model of a folder returns with that of an encoder, on noise.

    Args:
        folder: The folder, whose config asks for maps.
        encoder: The encoder, whose norms of outputs are taken off, as only ours has them.
        size: Rows and columns of the images.

    Returns:
        The difference; None if the maps have another shape.
    """
    network = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    expected, imgs = _last_map(encoder, size)
    found = network(imgs)[-1]
    return compare_maps([found], [expected]) if found.shape == expected.shape else None


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
    expected, imgs = _last_map(encoder, size)
    norm = 'body.norm.weight' in encoder.state_dict()
    (found,) = network.forward_intermediates(imgs, indices=[last], norm=norm, intermediates_only=True)
    return compare_maps([found], [expected])


def _last_map(encoder: Encoder, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the last map of an encoder, without the norms of its outputs, and the noise of which it is made."""
    encoder.out_norms = nn.ModuleList(nn.Identity() for _ in encoder.out_channels)
    imgs = torch.randn(2, encoder.in_chans, *size, generator=torch.Generator().manual_seed(0))
    return encoder(imgs)[-1], imgs
