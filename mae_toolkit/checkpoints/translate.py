"""Translating weights of any origin into the names of our models."""

from collections.abc import Mapping
from typing import NamedTuple

from torch import Tensor

from mae_toolkit.checkpoints.channels import takes_other_channels
from mae_toolkit.checkpoints.names import BODY, FORMATS, MASK_TOKEN, Format, find_format
from mae_toolkit.checkpoints.names.match import find_other_parts, has_same_numbers
from mae_toolkit.checkpoints.names.timm import HEADS, from_timm
from mae_toolkit.checkpoints.positions import COMPUTED, GridPolicy, copy_shared_positions, is_table
from mae_toolkit.checkpoints.protocols import Loadable, LoadableEncoder, LoadableModel
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import HasCheckpointFormats

# What a model has beside the encoder proper, and checkpoints of others lack.
BESIDE_ENCODER = ('decoder.', 'objectives.', 'encoder.out_norms.')


class Renamed(NamedTuple):
    """Weights under the names of our models.

    Attributes:
        weights: The tensors; they may differ from those of a model by dimensions of size one.
        left: Names in the file that are not read, as they are computed, or belong to what we build in another way.
        may_lack: Keys of the model that such weights lack, or their beginnings up to a dot.
        may_drop: Keys that the model need not have, or their beginnings up to a dot.
        policy: What is known of the grids of position tables that nobody has stated.
        resized_by_timm: Tables that timm's filter has resized already, taking them for squares.
    """

    weights: dict[str, Tensor]
    left: list[str] = []
    may_lack: tuple[str, ...] = ()
    may_drop: tuple[str, ...] = ()
    policy: GridPolicy = GridPolicy.OURS
    resized_by_timm: list[str] = []

    def reshape_for(self, model: Loadable) -> dict[str, Tensor]:
        """Return the weights in the shapes of a model, where they differ by dimensions of size one alone."""
        own = model.state_dict()
        return {k: v.reshape(own[k].shape) if has_same_numbers(v, own.get(k)) else v for k, v in self.weights.items()}


def translate(model: LoadableModel, state: Mapping[str, Tensor], objective: str | None = 'pixel') -> Renamed:
    """Translate weights of any origin into the names of a model.

    Args:
        model: The model that shall receive them.
        state: The tensors by our names, by those of a format of :mod:`mae_toolkit.checkpoints.names` or of the model's
            own ``checkpoint_formats``, or by timm's.
        objective: Name of the objective that receives the prediction head; None for a model that has none.

    Returns:
        The weights by our names, and what else is known of them.

    Raises:
        UserError: If there is no such objective, or the format has no place for a key.
    """
    if is_ours(state) or not runs_timm(model.encoder):
        return Renamed(dict(state), may_drop=tuple(name for name in state if name.endswith(COMPUTED)))
    own_formats = model.checkpoint_formats if isinstance(model, HasCheckpointFormats) else ()
    found = find_format(state, (*own_formats, *FORMATS))
    return _translate_timm(model, state) if found is None else _translate_format(found, model, state, str(objective))


def runs_timm(encoder: LoadableEncoder) -> bool:
    """Tell whether an encoder runs an architecture of timm; weights of any other are those of this toolkit."""
    return getattr(encoder, 'body', None) is not None


def is_ours(state: Mapping[str, Tensor]) -> bool:
    """Tell whether weights have the names of this toolkit."""
    return any(name.startswith(BODY) for name in state)


def _translate_format(found: Format, model: LoadableModel, state: Mapping[str, Tensor], objective: str) -> Renamed:
    translation = found.to_ours(state, _count_channels(found, model, state, objective), objective)
    others: tuple[str, ...] = BESIDE_ENCODER
    if found.whole:
        others = (*find_other_parts(translation.weights, model.state_dict(), objective), 'encoder.out_norms.')
    beside = [translation.origin[name] for name in translation.weights if name.startswith(others)]
    left = translation.left + [name for names in beside for name in names]
    weights = {name: tensor for name, tensor in translation.weights.items() if not name.startswith(others)}
    weights = copy_shared_positions(weights, model.state_dict(), BODY)
    may_lack = others if found.has_mask_token else (*others, MASK_TOKEN)
    may_drop: tuple[str, ...] = () if model.encoder.fills_hidden else (MASK_TOKEN,)
    may_drop = (*may_drop, *_list_unbuilt(model), *_list_zero_biases(weights))
    return Renamed(weights, left, may_lack, may_drop, GridPolicy.SQUARE)


def _list_zero_biases(weights: Mapping[str, Tensor]) -> list[str]:
    """List the biases that add nothing, so that a model without them computes the same: DINOv3 of some sizes."""
    return [name for name, tensor in weights.items() if name.endswith('bias') and not tensor.any()]


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
    _refuse_prefix(model, state, weights)
    norm = (f'{BODY}norm.',) if 'fc_norm.weight' in state else ()  # the norm comes after pooling there
    may_lack = (*BESIDE_ENCODER, MASK_TOKEN, *norm)
    heads = (BODY + name for name in HEADS)
    optional = (f'encoder.{name}' for name in model.encoder.optional_keys)
    left = [name for name in state if name.endswith(COMPUTED)]
    shapes = {tensor.shape for tensor in state.values()}
    by_timm = [name for name, tensor in weights.items() if is_table(name) and tensor.shape not in shapes]
    return Renamed(weights, left, may_lack, (*heads, *optional, *_list_unbuilt(model)), GridPolicy.EITHER, by_timm)


def _refuse_prefix(model: LoadableModel, state: Mapping[str, Tensor], renamed: Mapping[str, Tensor]) -> None:
    """Refuse weights of which the model has none, if all their names have one prefix.

    Raises:
        UserError: With the prefix, and how the names of timm begin.
    """
    first = next(iter(state), '')
    top = first.split('.')[0] + '.'
    if all(name.startswith(top) for name in state) and not renamed.keys() & model.state_dict().keys():
        own = next(iter(model.encoder.body.state_dict()), '')
        raise UserError(
            f"All {len(state)} names of the weights begin with {top!r}, as {first!r:.200} does, and timm's do not, as "
            f'{own!r}: take the prefix off, or rename the weights to those of timm; are they of this architecture?'
        )
