"""Weights of an architecture as it is published, into every configuration of it that our encoders have."""

import pytest
import timm
import torch

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.models import Encoder
from mae_toolkit.registry import build

VIT = {'img_size': 32, 'patch_size': 8, 'embed_dim': 24, 'depth': 2, 'num_heads': 3}
SWIN = {'img_size': 64, 'depths': (2, 2), 'embed_dim': 8, 'num_heads': (1, 2), 'window_size': 4}
HIERA = {'img_size': 64, 'embed_dim': 8, 'num_heads': 1, 'stages': (1, 1, 2, 1)}
CONVNEXT = {'depths': (1, 1, 1, 1), 'dims': (8, 8, 8, 8)}
# Name: encoder, architecture, its sizes, and configurations of the encoder, each with names that are new in it.
CASES = {
    'ViT': (
        'ViT',
        'vit_base_patch16_224',
        VIT,
        [
            ({'class_token': False}, []),
            ({'class_token': False, 'img_size': 64}, []),
            ({'window_size': 2, 'img_size': (96, 64), 'global_blocks': (1,)}, []),  # ViTDet
            ({'window_size': 2, 'img_size': 40, 'rel_pos': True}, ['rel_pos.']),
            ({'reg_tokens': 2}, ['body.reg_token']),
            ({'reg_tokens': 2, 'no_embed_class': True, 'img_size': (32, 64)}, ['body.reg_token']),
            ({'pos_embed': 'none', 'class_token': False}, []),
            ({'out_indices': (-1, 0), 'final_norm': False}, []),
            ({'mask_token': True, 'img_size': (64, 32)}, ['mask_token']),
        ],
    ),
    'ViT with registers': (
        'ViT',
        'vit_base_patch14_reg4_dinov2',
        VIT,
        [({'reg_tokens': 0}, []), ({'reg_tokens': 0, 'window_size': 2, 'img_size': (64, 96)}, [])],
    ),
    'BEiT': (
        'ViT',
        'beit_base_patch16_224',
        VIT,
        [
            ({'out_indices': (0,), 'img_size': 64}, ['body.norm.']),
            ({'final_norm': False, 'mask_token': True}, ['mask_']),
        ],
    ),
    'Swin': (
        'Swin',
        'swin_tiny_patch4_window7_224',
        SWIN,
        [
            ({'out_indices': (0,), 'out_norms': True}, ['out_norms.']),
            ({'window_size': 8, 'final_norm': False}, []),
            ({'mask_token': True, 'img_size': (96, 64)}, ['mask_token']),
        ],
    ),
    'Hiera': (
        'Hiera',
        'hiera_tiny_224',
        HIERA,
        [({'out_indices': (0, 1), 'q_pool': 2}, []), ({'img_size': (96, 64), 'out_norms': True}, ['out_norms.'])],
    ),
    'ConvNeXt': (
        'ConvNeXt',
        'convnextv2_atto',
        CONVNEXT,
        [({'out_indices': (0, 2), 'out_norms': True}, ['out_norms.'])],
    ),
    'CNN': ('SparseCNN', 'resnet18', {}, [({'out_indices': (1, 2), 'norm_eval': True}, [])]),
}
EACH = [(name, changes, new) for name, (*_, variants) in CASES.items() for changes, new in variants]


@pytest.mark.parametrize(('name', 'changes', 'new'), EACH, ids=[f'{name}-{changes}' for name, changes, _ in EACH])
def test_an_encoder_takes_what_its_architecture_has(name, changes, new, tmp_path):
    """Encoder-only weights of MAE have timm's names, too: a class token, and positions of a square."""
    kind, arch, sizes, _ = CASES[name]
    network = timm.create_model(arch, num_classes=5, **sizes)
    torch.save({'model': network.state_dict()}, tmp_path / 'public.pth')
    encoder = build(Encoder, {'type': kind, 'arch': arch, **sizes, **changes})
    report = load_pretrained(encoder, tmp_path / 'public.pth')
    start = tuple(f'encoder.{prefix}' for prefix in new)
    assert all(key.startswith(start) for key in report.new) and bool(report.new) == bool(new)
    theirs, own = network.state_dict(), encoder.body.state_dict()
    assert len(report.loaded) + len(report.resized) + len(report.dropped) == len(theirs)
    same = [key for key in own if key in theirs and own[key].shape == theirs[key].shape]
    changed = ('pos_embed', 'cls_token') if 'no_embed_class' in changes else ('pos_embed',)  # which holds its position
    assert all(torch.equal(own[key], theirs[key]) for key in same if not key.endswith(changed))
    assert {f'encoder.body.{key}' for key in same} <= {key.split(' ')[0] for key in (*report.loaded, *report.resized)}
