"""Folders that describe themselves: what those for timm and for transformers have in common."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.files import GRIDS
from mae_toolkit.checkpoints.positions import table_grids
from mae_toolkit.datasets.transforms import parse_size
from mae_toolkit.export.preparation import Preparation
from mae_toolkit.export.source import TrainedEncoder
from mae_toolkit.files import atomic_write
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.outputs import weights_mark
from mae_toolkit.registry import build

TOOL = 'export_weights'
WEIGHTS, CONFIG, CARD = 'model.safetensors', 'config.json', 'README.md'
PREPROCESSOR = 'preprocessor_config.json'
FILES = (WEIGHTS, CONFIG, CARD, PREPROCESSOR)


def build_downstream(config: Mapping[str, Any], checkpoint: str | Path, prefix: str = 'encoder') -> Encoder:
    """Build the encoder of a config with the weights of a checkpoint, in evaluation mode."""
    encoder = build(Encoder, config)
    load_pretrained(encoder, checkpoint, prefix)
    return encoder.eval()


def write_weights_and_config(
    folder: Path, state: dict[str, Tensor], config: Mapping[str, Any], metadata: dict[str, str]
) -> None:
    """Write the two files from which other libraries build a model.

    Args:
        folder: The folder; created if needed.
        state: The weights by the names of the library.
        config: What ``config.json`` says.
        metadata: Texts for the file of weights.
    """
    atomic_write(folder / WEIGHTS, save(state, metadata=metadata))
    atomic_write(folder / CONFIG, json.dumps(config, indent=2) + '\n')


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


def describe_written(out: Path, name: str, state: Mapping[str, Tensor], found: TrainedEncoder) -> str:
    """Say what was written, and of which checkpoint: the best one of a run may be that of its start."""
    step = '' if found.iteration is None else f' of step {found.iteration}'
    size = sum(tensor.numel() for tensor in state.values()) / 1e6
    return f'wrote {out}: {name}, {size:.2f} M numbers from {found.checkpoint.name}{step}'


def choose_size(given: Mapping[str, Any], encoder: Encoder, preparation: Preparation) -> tuple[int, int]:
    """Choose rows and columns of images for a comparison: those of the positions, else up to seven mask units."""
    if 'img_size' in given:
        return parse_size(given['img_size'])
    unit = encoder.mask_unit
    rows, columns = (unit * min(7, max(1, side // unit)) for side in preparation.size)
    return rows, columns
