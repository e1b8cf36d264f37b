"""Folders that describe themselves, as transformers' ``from_pretrained`` takes them."""

import json
from collections.abc import Iterator
from pathlib import Path

from mae_toolkit.checkpoints.files import to_full_precision
from mae_toolkit.checkpoints.weights import load_weights
from mae_toolkit.datasets.transforms import parse_size
from mae_toolkit.export.description import KEY, describe
from mae_toolkit.export.folder import (
    CARD,
    PREPROCESSOR,
    build_downstream,
    choose_size,
    describe_written,
    make_metadata,
    write_weights_and_config,
)
from mae_toolkit.export.huggingface import compare_with_transformers, make_preprocessor_config, to_huggingface
from mae_toolkit.export.model_card import write_card
from mae_toolkit.export.preparation import read_plain
from mae_toolkit.export.rounding import round_weights
from mae_toolkit.export.source import TrainedEncoder, require_config
from mae_toolkit.files import atomic_write

LOADING_TRANSFORMERS = """
from transformers import AutoImageProcessor, AutoModel
from mae_toolkit import load_encoder

processor, model = AutoImageProcessor.from_pretrained('{folder}'), AutoModel.from_pretrained('{folder}').eval()
{note}encoder, transform = load_encoder('{folder}')  # its maps, as detectors use them
"""
MAE_NOTE = """# This is ViTMAEModel, which hides and shuffles patches, in evaluation, too. With all, in their order:
# transformers.ViTModel.from_pretrained('{folder}', add_pooling_layer=False)
"""


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
    write_weights_and_config(out, state, config, make_metadata(model.name, description, encoder))
    atomic_write(out / PREPROCESSOR, json.dumps(make_preprocessor_config(preparation), indent=2) + '\n')
    mae = model.config['model_type'] == 'vit_mae'
    loading = LOADING_TRANSFORMERS.format(folder=out.name, note=MAE_NOTE.format(folder=out.name) if mae else '')
    atomic_write(out / CARD, write_card(model.name, description, 'transformers', loading))
    yield describe_written(out, model.name, state, found)
    size = parse_size(description['encoder'].get('img_size') or choose_size({}, encoder, preparation))
    difference = compare_with_transformers(out, encoder, size)
    yield 'transformers is not installed, so nothing was compared.' if difference is None else str(difference)
    yield f"Load it by transformers.AutoModel.from_pretrained('{out}') or mae_toolkit.load_encoder('{out}')."
