"""Saying what weights that do not fit a model seem to be, and what the model is."""

import re
from collections.abc import Iterable, Mapping

from torch import Tensor, nn

from mae_toolkit.checkpoints.names import BODY, FORMATS, Format
from mae_toolkit.checkpoints.protocols import LoadableEncoder

# How the names of blocks go on, in timm and nearly everywhere.
FAMILIES = {
    'ConvNeXt V2': r'(stages\.\d+\.(?:blocks\.)?\d+)\.(?:mlp\.)?grn\.',
    'ConvNeXt': r'(stages\.\d+\.(?:blocks\.)?\d+)\.(?:conv_dw|dwconv|depthwise_conv)\.',
    'Swin V2': r'(layers\.\d+\.blocks\.\d+)\.attn\.logit_scale',
    'Swin': r'((?:layers|stages)\.\d+\.blocks\.\d+)\.attn\.',
    'ResNet': r'(layer[1-4]\.\d+)\.conv1\.',
    'EfficientNet or MobileNet': r'(blocks\.\d+\.\d+)\.conv_dw\.',
    'VGG': r'(features\.\d+)\.weight',
    'ViT': r'((?:blocks|layers?|resblocks)\.\d+)\.(?:norm1|ln_?1|attn|attention|layernorm_before)\.',
}


def describe_misfit(state: Mapping[str, Tensor], encoder: LoadableEncoder, own_formats: Iterable[Format] = ()) -> str:
    """Say what weights seem to be, by the names in their file, and what an encoder is.

    Args:
        state: The tensors by the names in the file.
        encoder: The encoder that they do not fit.
        own_formats: Formats that its model alone reads.

    Returns:
        The end of a sentence, such as ``'the file seems to hold a ViT of 12 blocks of width 768 (152 of its 152 keys
        are those of MAE), the model has a ConvNeXt of 18 blocks of width 96'``.
    """
    name, known, translated = _find_nearest(state, encoder, own_formats)
    theirs = _describe(translated) or _describe(state)
    first = next(iter(state), '')
    seems = f'the file seems to hold {theirs}' if theirs else f'the first key of the file is {first:.80}'
    nearest = f'{len(known)} of its {len(state)} keys are those of {name}' if known else 'no format that is known'
    body: nn.Module = getattr(encoder, 'body', None) or encoder  # type: ignore[assignment]
    ours = _describe(body.state_dict()) or f'a {type(encoder).__name__} of {len(body.state_dict())} keys'
    return f'{seems} ({nearest}), the model has {ours}'


def _find_nearest(
    state: Mapping[str, Tensor], encoder: LoadableEncoder, own_formats: Iterable[Format]
) -> tuple[str, Mapping[str, str | None], dict[str, Tensor]]:
    """Find the format that has most names of a file: its name, the names, and the tensors by timm's names."""
    body = getattr(encoder, 'body', None)
    timm = {*encoder.architecture_names, *(() if body is None else body.state_dict())}
    found: list[tuple[str, Mapping[str, str | None]]] = [
        ('this toolkit', {name: name for name in state if name.startswith(BODY)}),
        (f"timm's {type(body).__name__}", {name: BODY + name for name in state if name in timm}),
        *((form.name, form.match(state)) for form in (*own_formats, *FORMATS)),
    ]
    name, known = max(found, key=lambda pair: len(pair[1]))
    pairs = ((ours, state[theirs]) for theirs, ours in known.items() if ours is not None and ours.startswith(BODY))
    return name, known, {ours.removeprefix(BODY): tensor for ours, tensor in pairs}


def _describe(state: Mapping[str, Tensor]) -> str | None:
    """Name the family of an architecture, its blocks and the width of its first convolution; None if nothing tells."""
    for family, pattern in FAMILIES.items():
        found = (re.search(rf'(?:^|\.){pattern}', name) for name in state)
        blocks = {match[1] for match in found if match is not None}
        if blocks:
            width = next((tensor.shape[0] for tensor in state.values() if tensor.dim() == 4), None)
            return f'a {family} of {len(blocks)} blocks' + (f' of width {width}' if width else '')
    return None
