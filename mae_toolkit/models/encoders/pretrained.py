"""Weights of a training run into an encoder, with every key accounted for."""

from mmengine.logging import print_log
from torch import nn

from mae_toolkit import weights
from mae_toolkit.engine.checkpoint import load_with_grids
from mae_toolkit.errors import UserError

ENCODER, NORMS = 'encoder.', 'encoder.out_norms.'


def load_pretrained(encoder, checkpoint, prefix=''):
    """Load an encoder from a checkpoint as a run writes it, and log what became of every key.

    Left at their fresh values may be the parts that one configuration of an architecture has and another lacks; left
    out of the checkpoint may be those, and what lies behind the last index of this encoder.

    Args:
        encoder (Encoder): Receives the weights.
        checkpoint (str | Path): The file.
        prefix (str): Under which the encoder lies there: ``'encoder'`` after pretraining.

    Raises:
        UserError: If there is nothing under the prefix, or for any other key that does not fit.
    """
    state, grids = load_with_grids(checkpoint)
    prefix = prefix.removesuffix('.')
    state = _under(prefix, state, checkpoint)
    model = nn.Module()  # the encoder under the name that it has in pretraining
    model.encoder = encoder
    parts = tuple(ENCODER + part for part in encoder.optional_parts)
    state = _without_other_norms(state, model.state_dict())
    unbuilt = tuple(f'{ENCODER}body.{name}' for name in encoder.architecture_names)
    grids = {ENCODER + name.removeprefix(_begin(prefix)): grid for name, grid in grids.items()}
    report = weights.load(model, state, parts, (*parts, *unbuilt), grids)
    print_log(f'Weights of the encoder from {checkpoint}:\n{report}', logger='current')


def _under(prefix, state, checkpoint):
    """What lies under a prefix, under our own one."""
    begin = _begin(prefix)
    found = {ENCODER + name.removeprefix(begin): value for name, value in state.items() if name.startswith(begin)}
    if not found:
        tops = sorted({name.split('.')[0] for name in state})
        raise UserError(f'{checkpoint} holds nothing under prefix={prefix!r}, only under {", ".join(tops)}.')
    if not any(name.startswith(f'{ENCODER}body.') for name in found):
        raise UserError(f'{checkpoint} is no checkpoint of this toolkit: make it one by tools/import_weights.py.')
    return found


def _begin(prefix):
    return f'{prefix}.' if prefix else ''


def _without_other_norms(state, own):
    """Norms of the outputs are counted by output: those of other outputs are no use and take another name."""
    theirs, ours = ({k: v.shape for k, v in names.items() if k.startswith(NORMS)} for names in (state, own))
    if theirs == ours:
        return state
    return {name.replace(NORMS, f'{NORMS}other.'): value for name, value in state.items()}
