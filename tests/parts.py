"""One small config of every registered part: the laws run over them.

A new encoder, masking, decoder, target or loss needs one line here.
"""

import itertools
from functools import cache

import torch

from mae_toolkit.models import MaskedAutoencoder, Target
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.models.rules import check_loss_kind
from mae_toolkit.models.wiring import Wiring
from mae_toolkit.registry import MODELS, build

VIT = {'patch_size': 8, 'embed_dim': 24, 'depth': 2, 'num_heads': 3, 'img_size': (32, 48)}
SHARED = {'use_shared_rel_pos_bias': True, 'use_rel_pos_bias': False, 'use_abs_pos_emb': False}
CONVNEXT = {'depths': (1, 2, 1, 1), 'dims': (6, 10, 12, 12), 'out_indices': (1,)}
HIERA = {'stages': (1, 2), 'embed_dim': 8, 'num_heads': 1, 'q_pool': 1, 'mask_unit_size': (2, 2)}
HIERA |= {'mask_unit_attn': (True, False), 'img_size': (32, 48)}
SWIN = {'depths': (2, 2), 'embed_dim': 8, 'num_heads': (1, 2), 'window_size': 2, 'img_size': (32, 48)}
DINOV3 = {'arch': 'vit_small_plus_patch16_dinov3_qkvb', **VIT, 'init_values': 0.5}
EVA02 = {'arch': 'eva02_base_patch14_224', **VIT, 'ref_feat_shape': (2, 3)}
ROPE_VIT = {'arch': 'vit_small_patch16_rope_mixed_ape_224', **VIT, 'init_values': 0.5}
SIZE = (32, 48)  # pixels of the test images; not square, and no window of Swin needs padding

# Each with a name of its own, as one class may need several configs.
ENCODERS = {
    'ViT': {'type': 'ViT', **VIT},
    'ViT learned positions, registers, levels': {
        'type': 'ViT',
        **VIT,
        'positions': 'learned',
        'reg_tokens': 2,
        'out_indices': (-1, 0, 1),
        'final_norm': False,
    },
    'ViT with a norm before the blocks, RMS norms': {
        'type': 'ViT',
        **VIT,
        'pre_norm': True,
        'norm_layer': 'rmsnorm',
        'final_norm': False,
    },
    'ConvNeXt': {'type': 'ConvNeXt', 'arch': 'convnext_tiny', **CONVNEXT, 'out_indices': (-1, 0, 1)},
    'ConvNeXt V2': {'type': 'ConvNeXt', 'arch': 'convnextv2_tiny', **CONVNEXT, 'out_norms': True},
    'ConvNeXt V2 atto, with 1x1 convolutions': {'type': 'ConvNeXt', 'arch': 'convnextv2_atto', **CONVNEXT},
    'Hiera': {'type': 'Hiera', **HIERA, 'out_indices': (-1, 0, 1)},
    'Hiera, resolution kept': {'type': 'Hiera', **HIERA, 'q_pool': 0, 'out_norms': True},
    'SparseCNN': {'type': 'SparseCNN', 'arch': 'resnet18', 'out_indices': (1, 2)},
    'SparseCNN with squeeze-and-excitation': {
        'type': 'SparseCNN',
        'arch': 'mobilenetv3_small_050',
        'out_indices': (2,),
    },
    'Swin': {'type': 'Swin', 'arch': 'swin_tiny_patch4_window7_224', **SWIN, 'out_indices': (-1, 0, 1)},
    'Swin V2': {'type': 'Swin', 'arch': 'swinv2_tiny_window8_256', **SWIN, 'final_norm': False, 'out_norms': True},
    'Swin with a mask token': {'type': 'Swin', **SWIN, 'mask_token': True},
    'Swin with absolute positions': {'type': 'Swin', **SWIN, 'ape': True, 'patch_norm': False},
    'ViT, windows and relative positions': {
        'type': 'ViT',
        **VIT,
        'window_size': 2,
        'global_blocks': (1,),
        'rel_pos': True,
        'out_indices': (0, 1),
    },
    'ViT with a mask token': {'type': 'ViT', **VIT, 'mask_token': True, 'positions': 'learned'},
    'BEiT, visible tokens': {'type': 'ViT', 'arch': 'beit_base_patch16_224', **VIT, 'init_values': 0.1},
    'BEiT, one shared bias': {'type': 'ViT', 'arch': 'beit_base_patch16_224', **VIT, **SHARED, 'mask_token': True},
    'ViT without class token': {'type': 'ViT', **VIT, 'class_token': False, 'no_embed_class': True, 'init_values': 0.1},
    'Eva, DINOv3': {'type': 'Eva', **DINOV3},
    'Eva, EVA-02, levels': {'type': 'Eva', **EVA02, 'out_indices': (-1, 0, 1), 'final_norm': False},
    'Eva, rotations learned for each block': {'type': 'Eva', **ROPE_VIT},
    'Eva, windows': {
        'type': 'Eva',
        **ROPE_VIT,
        'window_size': 3,
        'global_blocks': (1,),
        'out_indices': (0, 1),
    },
    'Eva with a mask token, Perception Encoder': {
        'type': 'Eva',
        'arch': 'vit_pe_core_base_patch16_224',
        **VIT,
        'mask_token': True,
    },
}
MASKINGS = {
    'RandomMasking': {'type': 'RandomMasking'},
    'BlockMasking': {'type': 'BlockMasking', 'min_cells': 3},
    'InverseBlockMasking': {'type': 'InverseBlockMasking', 'min_cells': 3},
    'GridMasking': {'type': 'GridMasking', 'block': 2},
    'UniformMasking': {'type': 'UniformMasking'},
    'ColorNoiseMasking, red': {'type': 'ColorNoiseMasking', 'color': 'red'},
    'ColorNoiseMasking, green': {'type': 'ColorNoiseMasking'},
    'ColorNoiseMasking, blue': {'type': 'ColorNoiseMasking', 'color': 'blue'},
    'ColorNoiseMasking, purple': {'type': 'ColorNoiseMasking', 'color': 'purple'},
    'AttentionMasking': {'type': 'AttentionMasking', 'network': {'type': 'ViT', **VIT}},
    'AttentionMasking, hiding': {
        'type': 'AttentionMasking',
        'network': {'type': 'ViT', **VIT, 'patch_size': 16},
        'mode': 'hide',
        'noise': 1.0,
    },
}
BLOCKS = {'embed_dim': 16, 'depth': 1, 'num_heads': 2}
DECODERS = {
    'ConvNeXtDecoder': {'type': 'ConvNeXtDecoder', 'embed_dim': 16, 'kernel_size': 3},
    'CrossAttentionDecoder': {'type': 'CrossAttentionDecoder', **BLOCKS, 'depth': 2},
    'LinearDecoder': {'type': 'LinearDecoder'},
    'TransformerDecoder': {'type': 'TransformerDecoder', **BLOCKS},
    'TransformerDecoder with fusion, learned positions': {
        'type': 'TransformerDecoder',
        **BLOCKS,
        'fusion': True,
        'positions': 'learned',
        'grid': (2, 3),
    },
    'UNetDecoder': {'type': 'UNetDecoder', 'width': 16},
    'UNetDecoder to stride 2, layer norms': {'type': 'UNetDecoder', 'width': 12, 'stride': 2, 'norm': 'layer'},
}
TARGETS = {
    'CodebookTarget': {'type': 'CodebookTarget', 'num_codes': 12},
    'HOGTarget': {'type': 'HOGTarget', 'cell': 4},
    'HOGTarget of the strongest channel': {'type': 'HOGTarget', 'cell': 2, 'color': 'strongest'},
    'LaplacianTarget': {'type': 'LaplacianTarget', 'weights': (1, 2, 4)},
    'LaplacianTarget, multi-scale pixels': {'type': 'LaplacianTarget', 'levels': 2, 'bands': False, 'norm_pix': True},
    'PixelTarget': {'type': 'PixelTarget'},
    'PixelTarget normalized': {'type': 'PixelTarget', 'norm_pix': True},
    'FeatureTarget': {'type': 'FeatureTarget', 'network': {'type': 'ViT', **VIT}},
    'FeatureTarget of a CNN': {
        'type': 'FeatureTarget',
        'network': {'type': 'SparseCNN', 'arch': 'resnet18', 'out_indices': (1,)},
        'norm': 'instance',
    },
    'FeatureTarget of timm': {
        'type': 'FeatureTarget',
        'network': {'type': 'timm', 'arch': 'convnextv2_atto', 'depths': (1, 1, 1, 1), 'dims': (6, 10, 12, 12)},
        'stride': 4,
    },
    'EMATarget': {'type': 'EMATarget'},
    'EMATarget, one level': {'type': 'EMATarget', 'levels': 1, 'norm': 'instance'},
}
LOSSES = {
    # Its weights have no gradient: with a greater exponent, a step may well raise it.
    'FocalFrequencyLoss': {'type': 'FocalFrequencyLoss', 'alpha': 0.02, 'patch_factor': 2},
    'MaskedCosineLoss': {'type': 'MaskedCosineLoss'},
    'MaskedCrossEntropyLoss': {'type': 'MaskedCrossEntropyLoss', 'label_smoothing': 0.1},
    'MaskedL1Loss': {'type': 'MaskedL1Loss'},
    'MaskedL2Loss': {'type': 'MaskedL2Loss'},
    'MaskedSmoothL1Loss': {'type': 'MaskedSmoothL1Loss'},
    'SSIMLoss': {'type': 'SSIMLoss', 'data_range': 4.0},
    'PerceptualLoss': {
        'type': 'PerceptualLoss',
        'network': {'type': 'SparseCNN', 'arch': 'resnet18', 'out_indices': (0, 1)},
    },
}
# What a target may take from the model of the tests, with the encoder 'ViT'.
WIRING = Wiring(in_chans=3, encoder=ENCODERS['ViT'], channels=(24,), strides=(8,), unit=8)


@cache  # this and what follows are asked for each combination, while tests are collected
def fits(encoder, decoder):
    """Whether a decoder can follow an encoder, by their names above: some fill no hidden cell."""
    pointwise = MODELS.get(DECODERS[decoder]['type']).pointwise
    return not pointwise or ENCODERS[encoder].get('mask_token', False)


@cache
def compares(target, loss):
    """Whether a loss can compare a prediction with a target, by their names above."""
    return check_loss_kind(_build_target(target), MODELS.get(LOSSES[loss]['type'])) is None


@cache
def _build_target(target):
    return build(Target, TARGETS[target], WIRING)


def covering(*axes, allowed=lambda *values: True):
    """Few of the allowed combinations of values, one from each axis, that hold every pair of values that occurs."""
    combinations = [values for values in itertools.product(*axes) if allowed(*values)]
    open_pairs = {pair for values in combinations for pair in _pairs(values)}
    chosen = []
    for gain in range(len(axes) * (len(axes) - 1) // 2, 0, -1):
        useful = []  # what adds no pair now adds none later
        for values in combinations:
            new = open_pairs & _pairs(values)
            if len(new) >= gain:
                chosen.append(values)
                open_pairs -= new
            elif new:
                useful.append(values)
        combinations = useful
    return chosen


def _pairs(values):
    return set(itertools.combinations(enumerate(values), 2))


def randomized(module):
    """The same module with random parameters that are not zero, so that each one matters; fixed tables stay."""
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in module.parameters():
            if p.requires_grad:
                p.copy_(torch.randn(p.shape, generator=generator) * 0.2 + 0.05)
    return module


def make_encoder(name, size=None, **changes):
    """A small encoder in training mode; its positions, if it has any, are for images of this size."""
    if size is not None and 'img_size' in ENCODERS[name]:
        changes['img_size'] = size
    return randomized(build(Encoder, ENCODERS[name] | changes)).train()


def make_model(
    encoder='ViT',
    masking='RandomMasking',
    decoder='TransformerDecoder',
    target='PixelTarget',
    loss='MaskedL2Loss',
    objectives=None,
    data_preprocessor=None,
):
    """A small masked autoencoder of parts by their names above, or of configs."""
    one = {'pixel': {'target': _config(TARGETS, target), 'losses': [_config(LOSSES, loss)]}}
    model = MaskedAutoencoder(
        encoder=_config(ENCODERS, encoder),
        masking=_config(MASKINGS, masking),
        decoder=_config(DECODERS, decoder),
        objectives=one if objectives is None else objectives,
        data_preprocessor=data_preprocessor,
    )
    return randomized(model).train()


def _config(known, part):
    return known[part] if isinstance(part, str) else part


def images(batch=2, channels=3, size=SIZE, seed=0):
    """Random images (B, C, H, W)."""
    return torch.randn(batch, channels, *size, generator=torch.Generator().manual_seed(seed))
