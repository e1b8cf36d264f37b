"""Build models from configs and checkpoints."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import init_default_scope
from torch import Tensor, nn

from mae_toolkit.checkpoints.files import MASKED_NORMS, load
from mae_toolkit.checkpoints.load import load_state, naming
from mae_toolkit.checkpoints.prefixes import take_off
from mae_toolkit.checkpoints.source import find_source
from mae_toolkit.checkpoints.weights import take_weights
from mae_toolkit.config.difference import warn_of_differences
from mae_toolkit.errors import UserError
from mae_toolkit.registry import MODELS, SCOPE, list_names, refuse_missing, refuse_unknown, suggest


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config, with newly initialized weights.

    Args:
        cfg: Config of a pretraining or of a :class:`Classifier`.

    Raises:
        UserError: If the type of the model or of a part is unknown, or an argument is missing, unknown or out of range.
    """
    init_default_scope(SCOPE)
    model = dict(cfg.model)
    cls = MODELS.get(model.pop('type', 'MaskedAutoencoder'))
    if cls is None:
        raise UserError(f'There is no model {cfg.model.type!r}{suggest(str(cfg.model.type), list_names(BaseModel))}')
    refuse_unknown(cls, model)
    refuse_missing(cls, model)
    return cls(**model)


def model_from_checkpoint(cfg: Config, checkpoint: str | Path, masked: bool = False) -> nn.Module:
    """Build the model of a config with the weights of a training checkpoint, in evaluation mode.

    Example::

        cfg = load_config('configs/pretrain/quickstart.py')
        model = model_from_checkpoint(cfg, 'work_dirs/quickstart/epoch_20.pth')

    Args:
        cfg: Config of a pretraining or of a :class:`Classifier`.
        checkpoint: A training checkpoint, or the folder of a run.
        masked: Whether masked images are to be encoded rather than whole ones, as for reconstructions: batch norms then
            have the running statistics of masked images, as far as the checkpoint holds them.

    Raises:
        UserError: If the checkpoint cannot be read, would execute code, or is of another architecture.
    """
    model = build_model(cfg)
    source = find_source(checkpoint)
    saved = load(source.path)
    warn_of_differences(source.path, saved, cfg, 'model')
    weights = take_weights(source, saved)
    with naming(source):
        load_state(model, weights.by_own_names(), grids=take_off(weights.prefix, weights.grids))
    if masked and isinstance(saved.get(MASKED_NORMS), dict):
        set_statistics(model, saved[MASKED_NORMS])
    return model.eval()


def set_statistics(model: Any, statistics: Mapping[str, Any]) -> list[str]:
    """Set running statistics of batch norms in an encoder; those that do not fit are left out.

    Args:
        model: A :class:`MaskedAutoencoder`.
        statistics: Tensors by their names in the encoder.

    Returns:
        The names of the tensors that were set.
    """
    buffers = dict(model.encoder.named_buffers())
    fits = [
        name
        for name, value in statistics.items()
        if name in buffers and isinstance(value, Tensor) and value.shape == buffers[name].shape
    ]
    for name in fits:
        buffers[name].copy_(statistics[name])
    return fits
