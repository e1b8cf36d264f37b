"""Norms under names of our scope, for the ``norm_cfg`` of necks and heads of MMDetection and MMSegmentation."""

from timm.layers import LayerNorm2d

from mae_toolkit.registry import MODELS

# Over the channels of a map (B, C, H, W), as ViTDet's heads have it (arXiv:2203.16527, appendix A.2).
MODELS.register_module(name='LayerNorm2d', module=LayerNorm2d)
