"""Saying what weights that do not fit a model seem to be, and what the model is."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from torch import Tensor, nn

from mae_toolkit.checkpoints.names import BODY, FORMATS, Format
from mae_toolkit.checkpoints.prefixes import take_off
from mae_toolkit.checkpoints.protocols import LoadableEncoder
from mae_toolkit.checkpoints.report import shorten
from mae_toolkit.printing import format_count

# How the names of blocks go on, in timm, in torchvision and nearly everywhere.
FAMILIES = {
    'ConvNeXt V2': r'(stages\.\d+\.(?:blocks\.)?\d+)\.(?:mlp\.)?grn\.',
    'ConvNeXt': r'(stages\.\d+\.(?:blocks\.)?\d+)\.(?:conv_dw|dwconv|depthwise_conv)\.',
    'Swin V2': r'(layers\.\d+\.blocks\.\d+)\.attn\.logit_scale',
    'Swin': r'((?:layers|stages)\.\d+\.blocks\.\d+|features\.\d+\.\d+)\.attn\.',
    'ResNet': r'(layer[1-4]\.\d+)\.conv1\.',
    'EfficientNet or MobileNet': r'(blocks\.\d+\.\d+)\.conv_dw\.',
    'VGG': r'(features\.\d+)\.weight',
    'ViT': r'((?:blocks|layers?|resblocks)\.\d+|encoder_layer_\d+)\.'
    r'(?:norm1|ln_?1|attn|attention|self_attention|layernorm_before)\.',
}


class Architecture(NamedTuple):
    """What an architecture seems to be.

    Attributes:
        family: Its name.
        blocks: How many blocks it has.
        width: The channels that its first convolution makes, if it has any.
    """

    family: str
    blocks: int
    width: int | None

    def __str__(self) -> str:
        """Return it as words."""
        width = f' of width {self.width}' if self.width else ''
        article = 'an' if self.family[0] in 'AEIOU' else 'a'
        return f'{article} {self.family} of {format_count(self.blocks, "block")}{width}'


def describe_misfit(
    problem: str, state: Mapping[str, Tensor], encoder: LoadableEncoder, own_formats: Iterable[Format] = ()
) -> str:
    """Say why weights do not fit, what they seem to be by the names in their file, and what an encoder is.

    Args:
        problem: What does not fit. If the architectures are others, this alone is said.
        state: The tensors by the names in the file.
        encoder: The encoder that they do not fit.
        own_formats: Formats that its model alone reads.

    Returns:
        A sentence, such as ``'The weights are not of this architecture: the file seems to hold a ViT of 12 blocks of
        width 768 (the nearest format, MAE, has 150 of its 152 keys, not head.weight, head.bias), and the model has a
        ConvNeXt of 18 blocks of width 96.'``
    """
    nearest_of = (_find_nearest(state, prefix, encoder, own_formats) for prefix in _list_beginnings(state))
    name, known, translated = max(nearest_of, key=lambda found: len(found[1]))
    theirs = _recognize(translated) or _recognize(state)
    others = [key for key in state if key not in known]
    if 4 * len(known) >= len(state):
        more = f', not {shorten(others, 3)}' if others else ''
        nearest = f'the nearest format, {name}, has {len(known)} of its {format_count(len(state), "key")}{more}'
    else:
        nearest = f'no format has more than {len(known)} of its {format_count(len(state), "key")}: {shorten(others, 3)}'
    body: nn.Module = getattr(encoder, 'body', None) or encoder  # type: ignore[assignment]
    ours = _recognize(body.state_dict())
    here = str(ours) if ours else f'a {type(encoder).__name__} of {len(body.state_dict())} tensors'
    there = f'seems to hold {theirs}' if theirs else 'does not tell its architecture'
    if ours and (theirs is None or theirs.family != ours.family):
        problem = 'The weights are not of this architecture'
    return f'{problem.rstrip(".?")}: the file {there} ({nearest}), and the model has {here}.'


def _find_nearest(
    state: Mapping[str, Tensor], prefix: str, encoder: LoadableEncoder, own_formats: Iterable[Format]
) -> tuple[str, set[str], dict[str, Tensor]]:
    """Find the format that has most names behind a prefix: its name, the whole names, the tensors by timm's names."""
    state = take_off(prefix, state)
    body = getattr(encoder, 'body', None)
    timm = {*encoder.architecture_names, *(() if body is None else body.state_dict())}
    found: list[tuple[str, Mapping[str, str | None]]] = [
        ('that of this toolkit', {name: name for name in state if name.startswith(BODY)}),
        ("that of timm's models", {name: BODY + name for name in state if name in timm}),
        *((form.name, form.match(state)) for form in (*own_formats, *FORMATS)),
    ]
    name, known = max(found, key=lambda pair: len(pair[1]))
    pairs = ((ours, state[theirs]) for theirs, ours in known.items() if ours is not None and ours.startswith(BODY))
    translated = {ours.removeprefix(BODY): tensor for ours, tensor in pairs}
    return name, {prefix + theirs for theirs in known}, translated


def _list_beginnings(names: Iterable[str]) -> Iterator[str]:
    """List what most names begin with, from nothing to the longest: ``''``, ``'model.'``, ``'model.backbone.'``."""
    names, prefix = list(names), ''
    while names:
        yield prefix
        tops = Counter(name.partition('.')[0] for name in names if '.' in name).most_common(1)
        if not tops or 2 * tops[0][1] < len(names):
            return
        top = tops[0][0]
        prefix = f'{prefix}{top}.'
        names = [name.partition('.')[2] for name in names if name.startswith(f'{top}.')]


def _recognize(state: Mapping[str, Tensor]) -> Architecture | None:
    """Recognize an architecture by the names of its blocks; None if nothing tells."""
    for family, pattern in FAMILIES.items():
        found = (re.search(rf'(?:^|\.){pattern}', name) for name in state)
        blocks = {match[1] for match in found if match is not None}
        if blocks:
            width = next((tensor.shape[0] for tensor in state.values() if tensor.dim() == 4), None)
            return Architecture(family, len(blocks), width)
    return None
