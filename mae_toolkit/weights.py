"""Names of weights: what others call them, what we call them, and loading that hides nothing."""

from typing import NamedTuple

import timm
import torch
from timm.layers import resample_abs_pos_embed
from timm.models.vision_transformer import VisionTransformer

from mae_toolkit.errors import UserError
from mae_toolkit.models.encoders.timm_body import class_of
from mae_toolkit.official_weights import encoder_of

ENCODER = 'encoder.body.'
# Official MAE (models_mae.py): prefix there -> prefix here. The first that fits is taken.
MAE_NAMES = {
    'decoder_embed.': 'decoder.embed.0.',
    'decoder_blocks.': 'decoder.blocks.',
    'decoder_norm.': 'decoder.norm.',
    'decoder_pred.': 'objectives.{objective}.head.proj.',
    'mask_token': 'decoder.mask_token',
    '': ENCODER,
}


class Report(NamedTuple):
    """What became of the keys of a checkpoint.

    Attributes:
        loaded: Keys that fitted as they were.
        resized: Position tables that were resized.
        new: Keys of the model that the checkpoint lacks.
        dropped: Keys of the checkpoint that the model does not build.
    """

    loaded: list[str]
    resized: list[str]
    new: list[str]
    dropped: list[str]

    def __str__(self):
        """One line per kind; long lists are shortened."""
        return '\n'.join(f'{kind:>8}: {len(keys):4}  {_shorten(keys)}' for kind, keys in self._asdict().items())


def is_mae(state):
    """Whether these are the names of an official MAE pretraining checkpoint, with its decoder."""
    return 'decoder_pred.weight' in state


def is_ours(state):
    """Whether these are names of a checkpoint of this toolkit."""
    return any(name.startswith(ENCODER) for name in state)


def from_mae(state, in_chans=3, objective='pixel'):
    """Rename official MAE weights, and put the prediction rows from (row, column, channel) into our order.

    Args:
        state (dict[str, Tensor]): Under the names of ``models_mae.py``.
        in_chans (int): Channels of its images.
        objective (str): Name of the objective that receives the prediction head.
    """
    renamed = {}
    for name, tensor in state.items():
        if name == 'decoder_pos_embed':  # fixed: computed here
            continue
        theirs = next(prefix for prefix in MAE_NAMES if name.startswith(prefix))
        ours = MAE_NAMES[theirs].format(objective=objective) + name.removeprefix(theirs)
        if theirs == 'decoder_pred.':
            tensor = rows_to_channel_first(tensor, in_chans)
            tensor = tensor[..., None, None] if tensor.dim() == 2 else tensor
        renamed[ours] = tensor.flatten() if name == 'mask_token' else tensor
    return renamed


def rows_to_channel_first(tensor, in_chans):
    """Reorder the first dimension (p*p*C, ...) from (row, column, channel) to (channel, row, column)."""
    if len(tensor) % in_chans:
        raise UserError(f'{in_chans} channels do not divide the {len(tensor)} values that these weights predict.')
    return tensor.unflatten(0, (-1, in_chans)).transpose(0, 1).flatten(0, 1)


def from_timm(state, body):
    """Weights under timm's names, through timm's own filter for this architecture, without its classifier.

    timm's filter reads the older layouts of an architecture's official releases and resizes position tables.
    """
    module = __import__(type(body).__module__, fromlist=['checkpoint_filter_fn'])
    filtered = getattr(module, 'checkpoint_filter_fn', lambda s, _: s)(dict(state), body)
    return {ENCODER + name: tensor for name, tensor in filtered.items()}


def under_our_names(state, model, objective='pixel'):
    """Weights of whatever origin under the names of a model.

    Args:
        state (dict[str, Tensor]): Ours, the official MAE's, an official encoder's (SparK, FCMAE, SimMIM, GreenMIM,
            Hiera; their decoders are left), or timm's.
        model (MaskedAutoencoder): The model.
        objective (str): Name of the objective that receives the prediction head of MAE.

    Returns:
        tuple: The weights; prefixes of the model's keys that they lack; keys that timm's filter resized.

    Raises:
        UserError: If there is no such objective.
    """
    if is_ours(state):
        return state, (), []
    official = encoder_of(state)
    if official is None and is_mae(state):
        if objective not in model.objectives:
            raise UserError(f'There is no objective {objective!r}, only {", ".join(model.objectives)}.')
        return from_mae(state, model.encoder.in_chans, objective), (), []
    state = state if official is None else official.weights
    renamed = from_timm(state, model.encoder.body)
    raw = {ENCODER + name: tensor.shape for name, tensor in state.items()}
    resized = [name for name, tensor in renamed.items() if raw.get(name, tensor.shape) != tensor.shape]
    resized = sorted(resized) if raw.keys() == renamed.keys() else []  # else timm's filter gave names to others
    if official is not None and official.mask_token is not None and model.encoder.fills_hidden:
        renamed['encoder.mask_token'] = official.mask_token
    return renamed, ('decoder.', 'objectives.', 'encoder.out_norms.'), resized


def to_timm(state):
    """The encoder of one of our checkpoints under timm's names, by removing one prefix.

    A last norm that pretraining lacks is written with unit scale and zero shift.
    """
    exported = {k.removeprefix(ENCODER): v for k, v in state.items() if k.startswith(ENCODER)}
    if not exported:
        raise UserError(f'The checkpoint holds no encoder: no name begins with {ENCODER!r}.')
    plain = {'weight': torch.ones_like, 'bias': torch.zeros_like}
    for name in plain if 'norm.weight' not in exported else ():
        like = exported.get(f'blocks.0.norm1.{name}')
        exported |= {} if like is None else {f'norm.{name}': plain[name](like)}
    return exported


def timm_model(arch, state, **kwargs):
    """timm's own model of these exported weights, without pooling.

    Raises:
        UserError: If the weights do not fit the architecture.
    """
    kind = class_of(arch, 'vit_')
    fixed = {'fc_norm': False} if issubclass(kind, VisionTransformer) else {}
    model = timm.create_model(arch, num_classes=0, global_pool='', **fixed, **kwargs)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"The encoder does not fit timm's {arch}: {_first_line(error)}") from None
    return model


def load(model, state, may_lack=(), may_drop=(), resized=()):
    """Load weights into a model and report every key.

    Args:
        model (nn.Module): Receives the weights.
        state (dict[str, Tensor]): Under the model's names. A position table of another size is resized.
        may_lack (tuple[str, ...]): Prefixes of the model's keys that the weights may lack.
        may_drop (tuple[str, ...]): Prefixes of keys that the model need not have.
        resized (list[str]): Keys that were resized before, for the report.

    Returns:
        Report: What became of the keys.

    Raises:
        UserError: For any other key that does not fit; nothing is loaded then.
    """
    own = model.state_dict()
    ready, resized = {}, list(resized)
    for name, tensor in state.items():
        if name in own and tensor.shape != own[name].shape:
            tensor = _resize(name, tensor, model)
            resized.append(name)
        ready[name] = tensor
    new, dropped = sorted(own.keys() - ready.keys()), sorted(ready.keys() - own.keys())
    for keys, allowed, verb in ((new, may_lack, 'lack'), (dropped, may_drop, 'hold, and the model does not build,')):
        wrong = [key for key in keys if not key.startswith(tuple(allowed))]
        if wrong:
            raise UserError(
                f'The weights {verb} {len(wrong)} keys: {_shorten(wrong)}; are they of this architecture and method?'
            )
    model.load_state_dict({k: v for k, v in ready.items() if k in own}, strict=False)
    return Report(sorted(ready.keys() & own.keys() - set(resized)), resized, new, dropped)


def _resize(name, tensor, model):
    """Resize a table of absolute positions (1, P+L, C) to the model's grid, or refuse."""
    own = model.state_dict()[name]
    grid = getattr(getattr(model, 'encoder', None), 'position_grid', None)
    if not name.endswith('pos_embed') or tensor.shape[-1] != own.shape[-1] or grid is None:
        raise UserError(
            f'The weights hold {name} of shape {tuple(tensor.shape)}, the model {tuple(own.shape)}; '
            'are they of this architecture?'
        )
    num_prefix = own.shape[1] - grid[0] * grid[1]
    side = (tensor.shape[1] - num_prefix) ** 0.5
    if side != int(side):
        raise UserError(f'{name} holds {tensor.shape[1]} positions, which are no square grid and {num_prefix} tokens.')
    return resample_abs_pos_embed(tensor, list(grid), num_prefix_tokens=num_prefix)


def _shorten(keys, most=6):
    return ', '.join(keys[:most]) + (f', … ({len(keys) - most} more)' if len(keys) > most else '')


def _first_line(error):
    return ' '.join(line.strip() for line in str(error).splitlines()[:2])


def full_precision(state):
    """Floating-point tensors in float32, the others as they are; all contiguous, as safetensors wants them."""
    return {k: (v.to(torch.float32) if v.is_floating_point() else v).contiguous() for k, v in state.items()}
