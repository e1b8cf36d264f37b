"""Loading an encoder alone: the backbone of a detector, or a teacher."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from mae_toolkit.checkpoints.channels import adapt_channels, warn_if_frozen
from mae_toolkit.checkpoints.load import describing_misfits, load_renamed, naming
from mae_toolkit.checkpoints.names import BODY, ENCODER, MASK_TOKEN
from mae_toolkit.checkpoints.origins import trace
from mae_toolkit.checkpoints.prefixes import take_off
from mae_toolkit.checkpoints.protocols import LoadableEncoder
from mae_toolkit.checkpoints.report import Report, log_report
from mae_toolkit.checkpoints.source import WeightsSource
from mae_toolkit.checkpoints.translate import Renamed, runs_timm, translate
from mae_toolkit.checkpoints.weights import read_weights
from mae_toolkit.errors import UserError

NORMS = 'encoder.out_norms.'


class _Pretrained(nn.Module):
    """An encoder under the name that it has in pretraining."""

    encoder: LoadableEncoder

    def __init__(self, encoder: LoadableEncoder) -> None:
        super().__init__()
        self.encoder = encoder


def load_pretrained(
    encoder: LoadableEncoder,
    checkpoint: str | Path,
    prefix: str = '',
    strict: bool = False,
    what: str = 'encoder',
    channels: str | None = None,
) -> Report:
    """Load an encoder from a checkpoint, and log what became of every key.

    Without a prefix the file may be one of ours (of training, or the encoder alone), or hold timm's weights or those of
    a format of :mod:`mae_toolkit.checkpoints.names`. Dropped are what is not of the encoder, the parts that one
    configuration of an architecture has and another has not, and what lies behind the last index of this encoder.

    Args:
        encoder: The encoder that receives the weights.
        checkpoint: The file.
        prefix: The prefix under which the encoder lies there: ``'encoder'`` after pretraining.
        strict: Refuse a file that lacks anything that the encoder has, as of a teacher, which is not trained further.
            Otherwise parts that not every configuration has may keep their fresh values.
        what: What is loaded, for the log.
        channels: Rule for weights of images with other channels, see :mod:`mae_toolkit.checkpoints.channels`.

    Returns:
        What became of the keys.

    Raises:
        UserError: If there is nothing under the prefix, or for any other key that does not fit; nothing is loaded then.
    """
    report, source, prefix, adapted = _fill(encoder, checkpoint, prefix, strict, channels)
    log_report(report, f'the {what}', source, prefix)
    warn_if_frozen(_Pretrained(encoder), adapted, what)
    return report


def check_pretrained(encoder: LoadableEncoder, checkpoint: str | Path, channels: str | None = None) -> Report:
    """Load an encoder as :func:`load_pretrained` does, to find out whether the weights fit; nothing is logged.

    Args:
        encoder: The encoder that receives the weights.
        checkpoint: The file.
        channels: Rule for weights of images with other channels.

    Raises:
        UserError: If they do not fit.
    """
    return _fill(encoder, checkpoint, '', False, channels)[0]


def _fill(
    encoder: LoadableEncoder, checkpoint: str | Path, prefix: str, strict: bool, channels: str | None
) -> tuple[Report, WeightsSource, str, Any]:
    """Load an encoder; return the report, the source, what was taken off the names, and the adapted weights."""
    tensors, source, part, grids = read_weights(checkpoint)
    start = f'{prefix.removesuffix(".")}.' if prefix else ''
    model = _Pretrained(encoder)
    with naming(source), describing_misfits(model, tensors):
        state = trace(tensors)
        if start:
            renamed = Renamed(_take_encoder(encoder, take_off(part, state), start, source), prefix=part + start)
        else:
            renamed = translate(model, state, None, source.format, part)
        grids = take_off(renamed.prefix, grids)
        grids = {ENCODER + name.removeprefix(ENCODER): grid for name, grid in grids.items()}
        weights, own = renamed.reshape_for(model), model.state_dict()
        optional = [ENCODER + part for part in encoder.optional_keys]
        beside = [name for name in weights if not name.startswith(ENCODER)]
        unbuilt = [BODY + name for name in encoder.architecture_names]
        may_lack, may_drop = optional, [*optional, *beside, *unbuilt, *renamed.may_drop]
        if strict:
            absent = [part for part in (*optional, MASK_TOKEN) if not _has(own, part)]
            may_lack, may_drop = [], [*absent, *beside, *unbuilt, *renamed.may_drop]
        else:
            weights = _set_other_norms_aside(weights, own)
        weights, adapted, _ = adapt_channels(weights, own, encoder.in_chans, channels)
        report = load_renamed(model, tensors, weights, may_lack, may_drop, grids, renamed).add_channels(adapted)
    return report, source, renamed.prefix, adapted


def _has(names: Mapping[str, Tensor], prefix: str) -> bool:
    return any(name.startswith(prefix) for name in names)


def _take_encoder(
    encoder: LoadableEncoder, state: Mapping[str, Tensor], start: str, source: WeightsSource
) -> dict[str, Tensor]:
    """Return what lies under a prefix, under that of an encoder in pretraining.

    Raises:
        UserError: If there is nothing, or it is no encoder of this toolkit.
    """
    found = {ENCODER + name.removeprefix(start): value for name, value in state.items() if name.startswith(start)}
    if not found:
        tops = sorted({name.split('.')[0] for name in state})
        raise UserError(f'{source} holds nothing under prefix={start[:-1]!r}, only under {", ".join(tops)}.')
    if runs_timm(encoder) and not any(name.startswith(BODY) for name in found):
        raise UserError(f'{source} is no checkpoint of this toolkit: make it one by tools/import_weights.py.')
    return found


def _set_other_norms_aside(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Rename the norms of the outputs, which are counted by output, unless the encoder has the same outputs."""
    theirs, ours = ({k: v.shape for k, v in names.items() if k.startswith(NORMS)} for names in (state, own))
    if theirs == ours:
        return dict(state)
    return {name.replace(NORMS, f'{NORMS}other.'): value for name, value in state.items()}
