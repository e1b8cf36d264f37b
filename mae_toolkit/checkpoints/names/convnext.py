"""ConvNeXt and ConvNeXt V2 (facebookresearch/ConvNeXt, ConvNeXt-V2): classifiers, and what FCMAE is converted to."""

from mae_toolkit.checkpoints.names.table import BODY, Format, Table, under
from mae_toolkit.checkpoints.names.values import POINTWISE, unit_dims

GRN = unit_dims('1 1 1 C', 'C')
BLOCK: Table = (
    ('dwconv.{param}', 'conv_dw.{param}'),
    ('norm.{param}', 'norm.{param}'),
    ('pwconv{n:1|2}.weight', 'mlp.fc{n}.weight', POINTWISE),
    ('pwconv{n:1|2}.bias', 'mlp.fc{n}.bias'),
    ('gamma', 'gamma'),
    ('grn.gamma', 'mlp.grn.weight', GRN),
    ('grn.beta', 'mlp.grn.bias', GRN),
)
STAGES: Table = (
    ('downsample_layers.0.{layer:[01]}.{param}', 'stem.{layer}.{param}'),
    ('downsample_layers.{stage:[1-3]}.{layer:[01]}.{param}', 'stages.{stage}.downsample.{layer}.{param}'),
    *under('stages.{stage}.{block}.', BLOCK, 'stages.{stage}.blocks.{block}.'),
)
CLASSIFIER: Table = (('{layer:norm|head}.{param}', None),)

CONVNEXT = Format('the official ConvNeXt', ('downsample_layers.',), (*under('', STAGES, BODY), *CLASSIFIER))
