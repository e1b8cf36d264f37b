"""Translating weights of any origin into the names of our models."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import NamedTuple

from torch import Tensor

from mae_toolkit.checkpoints.channels import takes_other_channels
from mae_toolkit.checkpoints.names import BODY, ENCODER, FORMATS, MASK_TOKEN, OURS, TIMM, Format, find_format
from mae_toolkit.checkpoints.names.match import find_other_parts, has_same_numbers
from mae_toolkit.checkpoints.names.timm import HEADS, from_timm
from mae_toolkit.checkpoints.positions import COMPUTED, GridPolicy, copy_shared_positions, is_table
from mae_toolkit.checkpoints.prefixes import find_prefix, match_names, take_off
from mae_toolkit.checkpoints.protocols import Loadable, LoadableEncoder, LoadableModel
from mae_toolkit.errors import MisfitError, UserError
from mae_toolkit.protocols import HasCheckpointFormats
from mae_toolkit.registry import suggest

# What a model has beside the encoder proper, and checkpoints of others lack.
BESIDE_ENCODER = ('decoder.', 'objectives.', 'encoder.out_norms.')


class Renamed(NamedTuple):
    """Weights under the names of our models.

    Attributes:
        weights: The tensors; they may differ from those of a model by dimensions of size one.
        may_lack: Keys of the model that such weights lack, or their beginnings up to a dot.
        may_drop: Keys that the model need not have, or their beginnings up to a dot.
        policy: What is known of the grids of position tables that nobody has stated.
        resized_by_timm: Tables that timm's filter has resized already, taking them for squares.
        prefix: What was taken off the names in the file; what does not begin so is not read.
    """

    weights: dict[str, Tensor]
    may_lack: tuple[str, ...] = ()
    may_drop: tuple[str, ...] = ()
    policy: GridPolicy = GridPolicy.OURS
    resized_by_timm: list[str] = []
    prefix: str = ''

    def reshape_for(self, model: Loadable) -> dict[str, Tensor]:
        """Return the weights in the shapes of a model, where they differ by dimensions of size one alone."""
        own = model.state_dict()
        return {k: v.reshape(own[k].shape) if has_same_numbers(v, own.get(k)) else v for k, v in self.weights.items()}


def translate(
    model: LoadableModel, state: Mapping[str, Tensor], objective: str | None = 'pixel', word: str = '', prefix: str = ''
) -> Renamed:
    """Translate weights of any origin into the names of a model.

    Args:
        model: The model that shall receive them.
        state: The tensors by our names, by those of a format of :mod:`mae_toolkit.checkpoints.names` or of the model's
            own ``checkpoint_formats``, or by timm's, with any prefix.
        objective: Name of the objective that receives the prediction head; None for a model that has none.
        word: The word for the format, if the user states it.
        prefix: What the names of the weights that are meant begin with, if the user states it. More may follow, which
            is found out.

    Returns:
        The weights by our names, and what else is known of them.

    Raises:
        UserError: If there is no such format or objective, the format has no place for a key, or several prefixes fit
            equally.
    """
    own, formats = model.state_dict(), _choose_formats(model, word)
    kinds = ('ours', 'timm', 'formats') if not word else (word if word in (OURS, TIMM) else 'formats',)
    state = take_off(prefix, state)
    body = own.keys() | _list_unbuilt(model)
    timm = {name.removeprefix(BODY) for name in body if name.startswith(BODY)}
    match = partial(match_names, own=own, formats=formats, objective=objective, kinds=kinds, timm=timm)
    found = find_prefix(state, own, match)
    state = take_off(found, state)
    return _translate(model, state, str(objective), word, formats)._replace(prefix=prefix + found)


def _translate(
    model: LoadableModel, state: Mapping[str, Tensor], objective: str, word: str, formats: Sequence[Format]
) -> Renamed:
    """Translate weights whose names have no prefix."""
    ours = word == OURS or is_ours(state) or not runs_timm(model.encoder)
    if (ours and word != TIMM) or is_encoder_alone(model, state):
        return _take_ours(model, state)
    form = None if word == TIMM else find_format(state, formats)
    if form is None and word and len(formats) == 1:
        form = formats[0]  # the user says so
    if form is None and word not in ('', TIMM):
        raise MisfitError(f'The names in the weights are not those of {word}: without {word}: they are looked at')
    if form is None or (not word and 2 * len(form.match(state)) < len(state)):  # its sign alone is not enough
        return _translate_timm(model, state)
    return _translate_format(form, model, state, objective)


def _choose_formats(model: LoadableModel, word: str) -> list[Format]:
    """List the formats that may be recognized: all, or those of a word.

    Raises:
        UserError: If there is none of this word.
    """
    formats = list_formats(model)
    if word in ('', OURS, TIMM):
        return formats
    chosen = [form for form in formats if form.word == word]
    if not chosen:
        known = sorted({OURS, TIMM, *(form.word for form in formats)})
        raise UserError(f'{word!r} is no format of weights{suggest(word, known)}')
    return chosen


def list_formats(model: LoadableModel) -> list[Format]:
    """List the formats that a model reads: its own ones, then those that all models read."""
    return [*(model.checkpoint_formats if isinstance(model, HasCheckpointFormats) else ()), *FORMATS]


def is_encoder_alone(model: LoadableModel, state: Mapping[str, Tensor]) -> bool:
    """Tell whether weights are those of an encoder of this toolkit, by its own names."""
    own = model.state_dict()
    if runs_timm(model.encoder):
        return any(name.startswith('body.') for name in state) and any(ENCODER + name in own for name in state)
    return any(ENCODER + name in own for name in state) and not any(name in own for name in state)


def _take_ours(model: LoadableModel, state: Mapping[str, Tensor]) -> Renamed:
    """Return weights under our names; those of an encoder alone may lack the rest of a model."""
    weights = {ENCODER + k: v for k, v in state.items()} if is_encoder_alone(model, state) else dict(state)
    alone = all(name.startswith(ENCODER) for name in weights)
    may_lack = (*BESIDE_ENCODER, MASK_TOKEN) if alone else ()
    return Renamed(weights, may_lack, tuple(name for name in weights if name.endswith(COMPUTED)))


def runs_timm(encoder: LoadableEncoder) -> bool:
    """Tell whether an encoder runs an architecture of timm; weights of any other are those of this toolkit."""
    return getattr(encoder, 'body', None) is not None


def is_ours(state: Mapping[str, Tensor]) -> bool:
    """Tell whether weights have the names of this toolkit."""
    return any(name.startswith(BODY) for name in state)


def _translate_format(found: Format, model: LoadableModel, state: Mapping[str, Tensor], objective: str) -> Renamed:
    _check_arch(found, model)
    translation = found.to_ours(state, _count_channels(found, model, state, objective), objective)
    others: tuple[str, ...] = BESIDE_ENCODER
    if found.whole:
        others = (*find_other_parts(translation.weights, model.state_dict(), objective), 'encoder.out_norms.')
    weights = {name: tensor for name, tensor in translation.weights.items() if not name.startswith(others)}
    weights = copy_shared_positions(weights, model.state_dict(), BODY)
    may_lack = (*others, *_list_moved_norm(state))
    if MASK_TOKEN not in weights and not _is_pretraining(found, translation.weights):
        may_lack += (MASK_TOKEN,)
    may_drop: tuple[str, ...] = () if model.encoder.fills_hidden else (MASK_TOKEN,)
    may_drop = (*may_drop, *_list_unbuilt(model), *_list_zero_biases(weights))
    return Renamed(weights, may_lack, may_drop, GridPolicy.SQUARE)


def _check_arch(found: Format, model: LoadableModel) -> None:
    """Refuse an architecture that has the parameters of a format's networks, but computes something else with them.

    Raises:
        UserError: With the architecture, and the one to take.
    """
    arch = str(getattr(model.encoder, 'arch', ''))
    if arch and not arch.startswith(found.arch):
        raise UserError(
            f"The weights look like {found.name}, for timm's {found.arch}{arch}; {arch} has the same parameters, but "
            f'computes something else with them: name the architecture {found.arch}{arch}.'
        )


def _is_pretraining(found: Format, weights: Mapping[str, Tensor]) -> bool:
    """Tell whether a file of a format with a mask token in the encoder holds the prediction, and so a whole model."""
    has_token = any(ours == MASK_TOKEN for _, ours, *_ in found.table)
    return has_token and found.whole and any(not name.startswith(ENCODER) for name in weights)


def _list_moved_norm(state: Mapping[str, Tensor]) -> list[str]:
    """Return the beginning of the last norm if it comes after pooling in a file, as in fine-tuned classifiers."""
    return [f'{BODY}norm.'] if 'fc_norm.weight' in state else []


def _list_zero_biases(weights: Mapping[str, Tensor]) -> list[str]:
    """List the biases that add nothing, so that a model without them computes the same: DINOv3 of some sizes."""
    return [
        name for name, tensor in weights.items() if name.endswith('bias') and not tensor.is_meta and not tensor.any()
    ]


def _count_channels(found: Format, model: LoadableModel, state: Mapping[str, Tensor], objective: str) -> int:
    """Count the channels of the images that weights take, by which their predictions are laid out, too."""
    own, channels = model.state_dict(), model.encoder.in_chans
    names = found.match(state, objective).items()
    firsts = [theirs for theirs, ours in names if ours and takes_other_channels(state[theirs], own.get(ours), channels)]
    return state[firsts[0]].shape[1] if firsts else channels


def _list_unbuilt(model: LoadableModel) -> list[str]:
    """List what the architecture has and this encoder does not build: what lies behind its last output."""
    return [BODY + name for name in model.encoder.architecture_names]


def _translate_timm(model: LoadableModel, state: Mapping[str, Tensor]) -> Renamed:
    state = copy_shared_positions(state, model.encoder.body.state_dict())
    weights = from_timm(state, model.encoder.body, model.encoder.architecture_names)
    may_lack = (*BESIDE_ENCODER, MASK_TOKEN, *_list_moved_norm(state))
    heads = (BODY + name for name in HEADS)
    optional = (f'encoder.{name}' for name in model.encoder.optional_keys)
    shapes = {tensor.shape for tensor in state.values()}
    by_timm = [name for name, tensor in weights.items() if is_table(name) and tensor.shape not in shapes]
    return Renamed(weights, may_lack, (*heads, *optional, *_list_unbuilt(model)), GridPolicy.EITHER, by_timm)
