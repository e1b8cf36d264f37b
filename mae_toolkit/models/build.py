"""Models from configs and checkpoints."""

from mmengine.registry import init_default_scope

from mae_toolkit.checkpoints.files import load, load_weights_and_grids
from mae_toolkit.checkpoints.load import load_state
from mae_toolkit.config.difference import warn_of_differences
from mae_toolkit.errors import UserError
from mae_toolkit.registry import MODELS, SCOPE, refuse_missing, refuse_unknown


def build_model(cfg):
    """The model of a config, with freshly drawn weights."""
    init_default_scope(SCOPE)
    model = dict(cfg.model)
    cls = MODELS.get(model.pop('type', 'MaskedAutoencoder'))
    if cls is None:
        raise UserError(f'There is no model {cfg.model.type!r}.')
    refuse_unknown(cls, model)
    refuse_missing(cls, model)
    return cls(**model)


def model_from_checkpoint(cfg, checkpoint):
    """The model of a config with the weights of a training checkpoint, in evaluation mode.

    Raises:
        UserError: If the checkpoint cannot be read, would execute code, or is of another architecture.
    """
    model = build_model(cfg)
    warn_of_differences(checkpoint, load(checkpoint), cfg, 'model')
    state, grids = load_weights_and_grids(checkpoint)
    load_state(model, state, grids=grids)
    return model.eval()
