"""SparK (keyu-tian/SparK): a ConvNeXt or a ResNet, whose names are timm's, and a U-Net decoder."""

from mae_toolkit.checkpoints.names.convnext import CLASSIFIER, STAGES
from mae_toolkit.checkpoints.names.table import BODY, HEAD, Format, under
from mae_toolkit.checkpoints.names.values import unit_dims

SPARK = Format(
    'SparK',
    ('sparse_encoder.sp_cnn.',),
    (
        *under('sparse_encoder.sp_cnn.', (*under('', STAGES, BODY), *CLASSIFIER)),
        ('sparse_encoder.sp_cnn.{resnet:(?:conv1|bn1|layer\\d)\\..+}', BODY + '{resnet}'),
        ('{buffer:imn_m|imn_s|norm_black}', None),
        ('mask_tokens.{level}', 'decoder.mask_tokens.{level}', unit_dims('1 C 1 1', 'C 1 1')),
        ('dense_decoder.dec.{level}.up_sample.{param}', 'decoder.dec.{level}.up_sample.{param}'),
        ('dense_decoder.dec.{level}.conv.{layer}.{norm_param}', 'decoder.dec.{level}.conv.{layer}.{norm_param}'),
        ('densify_norms.{level}.{norm_param}', 'decoder.densify_norms.{level}.{norm_param}'),
        ('densify_projs.{level}.{param}', 'decoder.densify_projs.{level}.{param}'),
        ('dense_decoder.proj.{param}', HEAD + '{param}'),
    ),
    whole=True,
)
