"""Weights into an encoder alone, with every key accounted for."""

from mmengine.logging import MMLogger, print_log
from torch import nn

from mae_toolkit.checkpoints.files import load_with_grids
from mae_toolkit.checkpoints.load import Renamed, load_state, under_our_names
from mae_toolkit.errors import UserError

ENCODER, NORMS = 'encoder.', 'encoder.out_norms.'


def load_pretrained(encoder, checkpoint, prefix=''):
    """Load an encoder from a checkpoint, and log what became of every key.

    Without a prefix the file may be one of ours (of training, or the encoder alone), or hold timm's weights or those of
    a method that we read. Left at their fresh values may be the parts that one configuration of an architecture has and
    another lacks; left out of the checkpoint may be those, and what lies behind the last index of this encoder.

    Args:
        encoder (Encoder): Receives the weights.
        checkpoint (str | Path): The file.
        prefix (str): Under which the encoder lies there: ``'encoder'`` after pretraining.

    Raises:
        UserError: If there is nothing under the prefix, or for any other key that does not fit.
    """
    state, grids = load_with_grids(checkpoint)
    prefix = prefix.removesuffix('.')
    model = nn.Module()  # the encoder under the name that it has in pretraining
    model.encoder = encoder
    renamed = _renamed(state, model, prefix, checkpoint)
    parts = tuple(ENCODER + part for part in encoder.optional_keys)
    state = _without_other_norms(renamed.fitting(model), model.state_dict())
    unbuilt = tuple(f'{ENCODER}body.{name}' for name in encoder.architecture_names)
    grids = {ENCODER + name.removeprefix(_begin(prefix)).removeprefix(ENCODER): grid for name, grid in grids.items()}
    may_drop = (*parts, *unbuilt, *renamed.may_drop)
    report = load_state(model, state, parts, may_drop, grids, renamed.known)
    report = renamed.add_renaming(report)
    logger = MMLogger.get_current_instance()
    logger.info(f'Weights of the encoder from {checkpoint}:\n{report}')
    logger.info(
        f'The encoder begins with {checkpoint}: {report.counts}; the log names them.', extra={'for_users': True}
    )


def _renamed(state, model, prefix, checkpoint):
    """Weights under our names: the encoder alone of our own checkpoints, of others what they hold."""
    if prefix or any(name.startswith('body.') for name in state):
        return Renamed(_under(prefix, state, checkpoint))
    renamed = under_our_names(state, model, objective=None)
    beside = tuple(name for name in renamed.weights if not name.startswith(ENCODER))
    return renamed._replace(may_drop=(*renamed.may_drop, *beside))


def load_whole(encoder, checkpoint):
    """Load an encoder from a checkpoint of whatever origin, and log what became of every key.

    Nothing of it may be lacking. Left out are what is not of the encoder, and what this one does not build.

    Args:
        encoder (nn.Module): An encoder, or what has its attributes ``body``, ``in_chans``, ``fills_hidden``,
            ``optional_keys`` and ``architecture_names``.
        checkpoint (str | Path): A training checkpoint of ours, timm's weights, or those of a method that we read.

    Raises:
        UserError: For any other key that does not fit; nothing is loaded then.
    """
    state, grids = load_with_grids(checkpoint)
    model = nn.Module()
    model.encoder = encoder
    own = model.state_dict()
    renamed = under_our_names(state, model, objective=None)
    unbuilt = (f'{ENCODER}body.{name}' for name in encoder.architecture_names - encoder.body.state_dict().keys())
    optional = (ENCODER + part for part in (*encoder.optional_keys, 'mask_token') if not _has(own, ENCODER + part))
    beside = (name for name in renamed.weights if not name.startswith(ENCODER))
    # The counters of batch norms matter only in training, and older files lack them.
    counters = {name: value for name, value in own.items() if name.endswith('num_batches_tracked')}
    state = counters | renamed.fitting(model)
    report = load_state(model, state, (), (*renamed.may_drop, *unbuilt, *optional, *beside), grids, renamed.known)
    print_log(f'Weights of a frozen network from {checkpoint}:\n{renamed.add_renaming(report)}', logger='current')


def _has(names, prefix):
    return any(name.startswith(prefix) for name in names)


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
