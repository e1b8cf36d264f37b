"""timm, whose names our encoders keep: ``blocks.0.norm1.weight`` is ``encoder.body.blocks.0.norm1.weight``.

There is no table here: timm has a filter for each of its architectures, which reads the layouts of their releases.
"""

import importlib
from collections.abc import Collection, Mapping

from torch import Tensor, nn

from mae_toolkit.checkpoints.names.table import BODY, WRONG_SHAPE
from mae_toolkit.checkpoints.positions import COMPUTED, is_table
from mae_toolkit.errors import MisfitError

# Classifiers of timm, which no encoder builds.
HEADS = ('head.', 'head_dist.', 'fc_norm.', 'attn_pool.', 'pre_logits.', 'fc.', 'classifier.')


def from_timm(state: Mapping[str, Tensor], body: nn.Module, unbuilt: Collection[str] = ()) -> dict[str, Tensor]:
    """Translate weights under timm's names into ours, through timm's own filter for this architecture.

    The filter takes every table of positions for that of a square image, and fails at names that this body does not
    build. Where all names are timm's already, they pass by it: loading can tell for which rows and columns a table is.

    Args:
        state: The tensors by timm's names, or by those of a release that timm's filter reads.
        body: timm's model, which shall receive them.
        unbuilt: More names of the architecture, which this body does not have.

    Raises:
        MisfitError: If the filter fails.
    """
    own = body.state_dict()
    names = own.keys() | set(unbuilt)
    native = all(is_timms(name, names) for name in state)
    read = {k: v for k, v in state.items() if not k.endswith(COMPUTED)}
    held = {k: v for k, v in read.items() if native and (k not in own or is_table(k) or _is_resized(v, own[k]))}
    filtered = {k: v for k, v in read.items() if k not in held}
    module = importlib.import_module(type(body).__module__)
    try:
        filtered = getattr(module, 'checkpoint_filter_fn', lambda s, _: s)(filtered, body)
    except (KeyError, AttributeError, AssertionError, *WRONG_SHAPE) as error:
        raise MisfitError(
            f"timm's {type(body).__name__} cannot read these weights; are they of this architecture?"
        ) from error
    return {BODY + name: tensor for name, tensor in (filtered | held).items()}


def is_timms(name: str, names: Collection[str]) -> bool:
    """Tell whether a name is one of timm's: of an architecture, of its classifier, or of a buffer that is computed."""
    return name in names or name.startswith(HEADS) or name.endswith(COMPUTED)


def _is_resized(tensor: Tensor, own: Tensor) -> bool:
    return tensor.dim() == own.dim() and tensor.shape != own.shape
