"""Make timm's models as the bodies of encoders, and refuse wrong arguments in the user's words."""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import timm
from timm.models import Beit, Eva, Hiera, SwinTransformer, SwinTransformerV2, VisionTransformer

from mae_toolkit.errors import UserError, wrap_build_error
from mae_toolkit.models.encoders.architectures import name_encoder
from mae_toolkit.registry import MODELS, refuse_unknown
from mae_toolkit.timm_models import TimmModule, find_timm_class

# Arguments of timm that have no meaning in an encoder, or that it decides.
FIXED = ('num_classes', 'global_pool', 'fc_norm', 'dynamic_img_size', 'dynamic_img_pad', 'patch_drop_rate')

# Arguments of our encoders that are timm's, too, under the same name.
SHARED = ('arch', 'in_chans', 'img_size', 'q_pool')

# Architectures whose heads share embed_dim channels, which double from stage to stage.
WITH_HEADS = (Beit, Eva, Hiera, SwinTransformer, SwinTransformerV2, VisionTransformer)


def create_body(
    arch: str, kinds: tuple[type, ...], family: str, fixed: dict[str, Any] | None = None, **kwargs: Any
) -> TimmModule:
    """Make the timm model of an architecture, without pooling and classifier.

    Args:
        arch: Name in timm.
        kinds: The classes that it may have.
        family: Start of the names of such architectures, to suggest one.
        fixed: What the encoder itself passes to timm.
        **kwargs: What the user passes to timm. Drop path is off unless it is asked for, whatever timm's default.

    Raises:
        UserError: If timm does not know the name, it is of another class, or refuses the arguments.
    """
    found = find_timm_class(arch, family)
    if not issubclass(found, kinds):
        wanted, name = ' or '.join(kind.__name__ for kind in kinds), name_encoder(found)
        other = f"type='{name}'" if name else 'another encoder'
        raise UserError(
            f"This encoder runs timm's {wanted}, and {arch!r} is of its class {found.__name__}: choose "
            f'{other}, or an architecture such as {timm.list_models(f"{family}*")[0]}.'
        )
    for key in kwargs.keys() & set(FIXED):
        raise UserError(f'The encoder sets {key} of timm itself: leave it out.')
    refuse_unknown(found, kwargs)
    if issubclass(found, WITH_HEADS):
        _check_heads(kwargs.get('embed_dim'), kwargs.get('num_heads'))
    if 'drop_path_rate' in inspect.signature(found.__init__).parameters:
        kwargs.setdefault('drop_path_rate', 0.0)
    with wrap_build_error(f'{arch!r} with {kwargs}'):
        return timm.create_model(arch, num_classes=0, global_pool='', **(fixed or {}), **kwargs)


def _check_heads(embed_dim: object, num_heads: object) -> None:
    """Refuse numbers of heads, one or one per stage, that do not divide the channels of the stage."""
    stages = num_heads if isinstance(num_heads, list | tuple) else [num_heads]
    if not isinstance(embed_dim, int) or not all(isinstance(heads, int) and heads > 0 for heads in stages):
        return
    for i, heads in enumerate(stages):
        if embed_dim * 2**i % heads:
            raise UserError(
                f'num_heads={num_heads} with embed_dim={embed_dim}: {heads} heads do not divide {embed_dim * 2**i} '
                'channels.'
            )


def find_timm_arguments(config: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return architecture and arguments of timm's own model of an encoder's config: what is ours alone is left out."""
    own = inspect.signature(MODELS.get(config['type']).__init__).parameters
    given = {k: v for k, v in config.items() if k in SHARED or (k not in own and k not in ('type', 'init_cfg'))}
    if 'img_size' in own:
        given.setdefault('img_size', own['img_size'].default)
    return given.pop('arch', own['arch'].default), given


def check_indices(indices: Sequence[int] | int | None, depth: int, what: str) -> tuple[int, ...]:
    """Return ``out_indices`` as a tuple.

    Args:
        indices: Levels, -1 for the embedded input; the last one if None.
        depth: Number of levels.
        what: Name of the levels or stages in errors.

    Raises:
        UserError: If one is not among -1 (the embedded input) to the last, or they do not rise.
    """
    indices = (depth - 1,) if indices is None else (indices,) if isinstance(indices, int) else tuple(indices)
    for index in indices:
        if not isinstance(index, int) or not -1 <= index < depth:
            raise UserError(f'out_indices {indices} reach beyond the {depth} {what} 0 to {depth - 1} (-1: the input).')
    if not indices or list(indices) != sorted(set(indices)):
        raise UserError(f'out_indices {indices} must name one or more of the {depth} {what}, once each, rising.')
    return indices


def check_frozen(count: int, last: int, what: str) -> int:
    """Return ``frozen_stages``.

    Args:
        count: Stages that are frozen, -1 for nothing.
        last: Stages that are built.
        what: Name of the levels or stages in errors.

    Raises:
        UserError: If it is not from -1 (nothing) to the last.
    """
    if not isinstance(count, int) or not -1 <= count <= last:
        raise UserError(f'frozen_stages={count!r} must be from -1 (nothing) to {last}, the last of the {what} built.')
    return count
