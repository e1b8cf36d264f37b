"""Names of weights: what others call them, what we call them, and loading that hides nothing."""

import importlib
import re
from typing import NamedTuple

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from mae_toolkit.checkpoints import names as official
from mae_toolkit.checkpoints.checks import check_kinds
from mae_toolkit.checkpoints.names.match import parts_of_another_kind, same_but_for_ones
from mae_toolkit.checkpoints.names.method import MASK_TOKEN
from mae_toolkit.checkpoints.positions import (
    COMPUTED,
    EITHER,
    OURS,
    SQUARE,
    is_axis,
    is_table,
    resize_axis_table,
    resize_position_table,
    table_grids,
    tokens_of,
)
from mae_toolkit.errors import UserError
from mae_toolkit.protocols import HasCheckpointFormats, HasOwnWeights
from mae_toolkit.timm_models import find_timm_class

ENCODER = 'encoder.body.'
# Classifiers of timm, which no encoder builds.
HEADS = ('head.', 'head_dist.', 'fc_norm.', 'attn_pool.', 'pre_logits.', 'fc.', 'classifier.')
# What is there to be trained, so that the weights of another method lack it.
NOT_OF_AN_ENCODER = ('decoder.', 'objectives.', 'encoder.out_norms.')


class Report(NamedTuple):
    """What became of the keys of a checkpoint.

    Attributes:
        loaded: Keys that fitted as they were.
        resized: Tables of positions that were resized, with both grids.
        new: Keys of the model that the checkpoint lacks.
        dropped: Keys of the checkpoint that the model does not build.
    """

    loaded: list[str]
    resized: list[str]
    new: list[str]
    dropped: list[str]

    @property
    def counts(self):
        """How many there are of each, as text."""
        return ', '.join(f'{len(names)} {kind}' for kind, names in self._asdict().items())

    def __str__(self):
        """One line per kind; long lists are shortened."""
        return '\n'.join(f'{kind:>8}: {len(keys):4}  {_shorten(keys)}' for kind, keys in self._asdict().items())


class Renamed(NamedTuple):
    """Weights of whatever origin under our names.

    Attributes:
        weights: The tensors; a dimension of size one more or less does not matter.
        left: Names of theirs that are not read, as they belong to what we build in another way or compute.
        may_lack: Prefixes of the model's keys that such weights lack.
        may_drop: Prefixes of keys that the model need not have.
        known: What is known of the grids of position tables, see
            :func:`~mae_toolkit.checkpoints.positions.resize_position_table`.
        by_timm: Tables that timm's filter has resized already, taking them for squares.
    """

    weights: dict[str, Tensor]
    left: list[str] = []
    may_lack: tuple[str, ...] = ()
    may_drop: tuple[str, ...] = ()
    known: str = OURS
    by_timm: list[str] = []

    def fitting(self, model):
        """The weights in the shapes of a model, where they differ by dimensions of size one."""
        own = model.state_dict()
        return {k: v.reshape(own[k].shape) if same_but_for_ones(v, own.get(k)) else v for k, v in self.weights.items()}

    def add_renaming(self, report):
        """A report of loading that tells what renaming did, too."""
        return report._replace(
            loaded=[name for name in report.loaded if name not in self.by_timm],
            resized=sorted([*report.resized, *(f'{name} (from a square, by timm)' for name in self.by_timm)]),
            dropped=sorted([*report.dropped, *self.left]),
        )


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
    return official.read(official.MAE, state, in_chans, objective).weights


def from_timm(state, body, unbuilt=()):
    """Weights under timm's names, through timm's own filter for this architecture.

    timm's filter reads other layouts of an architecture's releases. Tables of positions that have timm's names pass by
    it, as it would take any grid for a square one. ``unbuilt`` are more of its names, which the body does not have.

    Raises:
        UserError: If the filter fails.
    """
    own = body.state_dict()
    names = own.keys() | set(unbuilt)
    native = all(name in names or name.startswith(HEADS) or name.endswith(COMPUTED) for name in state)
    held = {k: v for k, v in state.items() if native and k in own and (is_table(k) or _other_size(v, own[k]))}
    module = importlib.import_module(type(body).__module__)
    filtered = {k: v for k, v in state.items() if k not in held and not k.endswith(COMPUTED)}
    try:
        filtered = getattr(module, 'checkpoint_filter_fn', lambda s, _: s)(filtered, body)
    except (KeyError, RuntimeError, AttributeError, ValueError, IndexError, TypeError, AssertionError) as error:
        raise UserError(
            f"timm's {type(body).__name__} cannot read these weights ({type(error).__name__}: {_first_line(error)}); "
            'are they of this architecture?'
        ) from error
    return {ENCODER + name: tensor for name, tensor in (filtered | held).items()}


def under_our_names(state, model, objective='pixel'):
    """Weights of whatever origin under the names of a model.

    Args:
        state (dict[str, Tensor]): Ours, of one of the methods of :mod:`mae_toolkit.checkpoints.names`, or timm's.
        model (MaskedAutoencoder): The model.
        objective (str | None): Name of the objective that receives the prediction head; None for a model
            that has none.

    Returns:
        Renamed: The weights, and what else is known of them.

    Raises:
        UserError: If there is no such objective, or a key that the method does not have.
    """
    if is_ours(state):
        return Renamed(state, may_drop=tuple(name for name in state if name.endswith(COMPUTED)))
    method = official.method_of(
        state, (*(model.checkpoint_formats if isinstance(model, HasCheckpointFormats) else ()), *official.METHODS)
    )
    if method is None:
        heads = tuple(ENCODER + name for name in HEADS)
        optional = tuple(f'encoder.{part}' for part in model.encoder.optional_keys)
        norm = (f'{ENCODER}norm.',) if 'fc_norm.weight' in state else ()  # which comes after pooling there
        left = [name for name in state if name.endswith(COMPUTED)]
        weights = from_timm(state, model.encoder.body, model.encoder.architecture_names)
        _refuse_prefix(state, weights, model)
        shapes = {tensor.shape for tensor in state.values()}
        by_timm = [name for name, tensor in weights.items() if is_table(name) and tensor.shape not in shapes]
        return Renamed(weights, left, (*NOT_OF_AN_ENCODER, MASK_TOKEN, *norm), (*heads, *optional), EITHER, by_timm)
    weights, left, theirs = official.read(method, state, model.encoder.in_chans, str(objective))
    others = NOT_OF_AN_ENCODER
    if method.whole:
        others = (*parts_of_another_kind(weights, model.state_dict(), str(objective)), 'encoder.out_norms.')
    left += [theirs[name] for name in weights if name.startswith(others)]
    weights = {name: tensor for name, tensor in weights.items() if not name.startswith(others)}
    may_lack = others + (() if method.has_mask_token else (MASK_TOKEN,))
    may_drop = () if model.encoder.fills_hidden else (MASK_TOKEN,)
    return Renamed(weights, left, may_lack, may_drop, SQUARE)


def load_any(model, state, objective='pixel', grid=None, grids=None):
    """Load weights of whatever origin into a model and report every key.

    Args:
        model (MaskedAutoencoder): Receives the weights.
        state (dict[str, Tensor]), objective (str): See :func:`under_our_names`.
        grid (tuple[int, int] | None): Rows and columns of the encoder's positions in the weights, if the user says so.
        grids (dict | None): The same by name, if the file says so.

    Returns:
        Report: What became of the keys.

    Raises:
        UserError: For any key that is not accounted for; nothing is loaded then.
    """
    renamed = under_our_names(state, model, objective)
    if grid is not None:
        grids = (grids or {}) | _tables_over_images(model, grid)
    others = [path for path, part in model.named_modules() if isinstance(part, HasOwnWeights) and part.has_own_weights]
    may_lack = (*renamed.may_lack, *(f'{path}.' for path in others))
    report = load_state(model, renamed.fitting(model), may_lack, renamed.may_drop, grids, renamed.known)
    return renamed.add_renaming(report)


def load_state(model, state, may_lack=(), may_drop=(), grids=None, known=OURS):
    """Load weights into a model and report every key.

    Args:
        model (nn.Module): Receives the weights.
        state (dict[str, Tensor]): Under the model's names. A table of positions of another grid is resized.
        may_lack (tuple[str, ...]): Prefixes of the model's keys that the weights may lack.
        may_drop (tuple[str, ...]): Prefixes of keys that the model need not have.
        grids (dict[str, tuple[int, int]] | None): Rows and columns of tables of positions in ``state``, by name.
        known (str): What is known of the others, see :func:`~mae_toolkit.checkpoints.positions.resize_position_table`.

    Returns:
        Report: What became of the keys.

    Raises:
        UserError: For any other key that does not fit; nothing is loaded then.
    """
    own, own_grids, grids = model.state_dict(), table_grids(model), grids or {}
    check_kinds('The weights', state, own)
    ready, resized = {}, {}
    for name, tensor in state.items():
        if name in own and is_table(name) and (name in own_grids or own[name].dim() == 4):
            source_grid, tokens = grids.get(name), tokens_of(name, state)
            tensor, how = resize_position_table(
                name, tensor, own[name], own_grids.get(name), source_grid, known, tokens
            )
            resized |= {} if how is None else {name: f'{name} ({how})'}
        if name in own and is_axis(name) and len(tensor) != len(own[name]):
            resized[name] = f'{name} ({len(tensor)} to {len(own[name])})'
            tensor = resize_axis_table(tensor, (len(own[name]) + 1) // 2)
        if name in own and tensor.shape != own[name].shape:
            raise UserError(
                f'The weights hold {name} of shape {tuple(tensor.shape)}, the model {tuple(own[name].shape)}; '
                'are they of this architecture?'
            )
        ready[name] = tensor
    new, dropped = sorted(own.keys() - ready.keys()), sorted(ready.keys() - own.keys())
    for keys, allowed, verb in ((new, may_lack, 'lack'), (dropped, may_drop, 'hold, and the model does not build,')):
        wrong = [key for key in keys if not key.startswith(tuple(allowed))]
        if wrong:
            raise UserError(
                f'The weights {verb} {len(wrong)} keys: {_shorten(wrong)}; are they of this architecture and method?'
            )
    model.load_state_dict({k: v for k, v in ready.items() if k in own}, strict=False)
    return Report(sorted(ready.keys() & own.keys() - resized.keys()), sorted(resized.values()), new, dropped)


def to_timm(state):
    """The encoder of one of our checkpoints under timm's names, by removing one prefix.

    A last norm that pretraining lacks is written with unit scale and zero shift.
    """
    exported = {k.removeprefix(ENCODER): v for k, v in state.items() if k.startswith(ENCODER)}
    if not exported:
        raise UserError(
            f'The checkpoint holds no encoder: no name begins with {ENCODER!r}, as after pretraining; of a detector, '
            'export what it began with.'
        )
    relative = [k for k in state if k.startswith('encoder.rel_pos.')]
    if relative:
        raise UserError(f'The encoder has {len(relative)} tables of relative positions, which its model in timm lacks.')
    return exported | _last_norm(exported)


def _last_norm(state):
    """A last norm that an encoder lacks, with unit scale and zero shift, where its architecture has it in timm."""
    plain = {'weight': torch.ones_like, 'bias': torch.zeros_like}
    if {'norm.weight', 'norm_pre.weight'} & state.keys():
        return {}
    hiera = any(re.fullmatch(r'blocks\.\d+\.proj\.weight', name) for name in state)
    if hiera or 'stages.0.blocks.0.conv_dw.weight' in state:  # Hiera and ConvNeXt: behind the pooling
        widths = [tensor for name, tensor in state.items() if name.endswith('.mlp.fc2.bias')]
        return {f'head.norm.{name}': plain[name](widths[-1]) for name in plain} if widths else {}
    like = {name: state.get(f'blocks.0.norm1.{name}') for name in plain}
    return {f'norm.{name}': plain[name](tensor) for name, tensor in like.items() if tensor is not None}


def timm_model(arch, state, **kwargs):
    """timm's own model of these exported weights, without pooling.

    Raises:
        UserError: If the weights do not fit the architecture.
    """
    kind = find_timm_class(arch, 'vit_')
    fixed = {'fc_norm': False} if issubclass(kind, VisionTransformer) else {}
    model = timm.create_model(arch, num_classes=0, global_pool='', **fixed, **kwargs)
    try:
        model.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise UserError(f"The encoder does not fit timm's {arch}: {_first_line(error)}") from None
    return model


def _tables_over_images(model, grid):
    """Rows and columns of the tables over images in weights whose encoder has these, by name, or a refusal.

    A decoder's table may be coarser than the encoder's (Hiera): by the same factor as in the model.
    """
    own, tables = model.encoder.position_grid, table_grids(model)
    grids = {name: grid for name, grid in tables.items() if name.startswith((ENCODER, 'decoder.'))}  # no teacher's
    if own is None or not grids:
        raise UserError(f'--grid {grid[0]} {grid[1]}: this encoder stores no positions over an image; leave it out.')
    scaled = ((name, zip(grid, own_grid, own, strict=True)) for name, own_grid in grids.items())
    return {name: tuple(n * mine // encoders for n, mine, encoders in sizes) for name, sizes in scaled}


def _refuse_prefix(state, renamed, model):
    """Refuse weights of which the model has none, if all their names begin alike.

    Raises:
        UserError: With the beginning, and how the names of timm begin.
    """
    first = next(iter(state), '')
    top = first.split('.')[0] + '.'
    if all(name.startswith(top) for name in state) and not renamed.keys() & model.state_dict().keys():
        own = next(iter(model.encoder.body.state_dict()), '')
        raise UserError(
            f"All {len(state)} names of the weights begin with {top!r}, as {first!r:.200} does, and timm's do not, as "
            f'{own!r}: take the prefix off, or rename the weights to those of timm; are they of this architecture?'
        )


def _other_size(tensor, own):
    """Whether two tensors have as many dimensions but not the same shape."""
    return tensor.dim() == own.dim() and tensor.shape != own.shape


def _shorten(keys, most=6):
    return ', '.join(f'{key:.200}' for key in keys[:most]) + (
        f', … ({len(keys) - most} more)' if len(keys) > most else ''
    )


def _first_line(error):
    return ' '.join(line.strip() for line in str(error).splitlines()[:2])


def full_precision(state):
    """Floating-point tensors in float32, the others as they are; all contiguous, as safetensors wants them."""
    return {k: (v.to(torch.float32) if v.is_floating_point() else v).contiguous() for k, v in state.items()}
