"""ViTs under the names of their releases give the features that timm's own filter for these releases gives."""

import pytest
import timm
import torch
from timm.models.vision_transformer import checkpoint_filter_fn

from mae_toolkit.checkpoints.encoder import load_pretrained
from mae_toolkit.checkpoints.names import find_format
from mae_toolkit.checkpoints.names.dinov2 import DINOV2, DINOV2_SWIGLU
from mae_toolkit.checkpoints.names.openclip import OPENCLIP, OPENCLIP_TOWER
from mae_toolkit.models import Encoder
from mae_toolkit.registry import build
from parts import randomized

SIZES = {'img_size': 32, 'patch_size': 8, 'embed_dim': 16, 'depth': 2, 'num_heads': 2, 'mlp_ratio': 6}
TEXTS = {'positional_embedding': torch.ones(7, 4), 'logit_scale': torch.ones(()), 'visual.proj': torch.ones(16, 4)}
TEXTS |= {'transformer.resblocks.0.ln_1.weight': torch.ones(4), 'token_embedding.weight': torch.ones(9, 4)}
# Name: architecture, format, and what lies beside the encoder.
RELEASES = {
    'DINOv2': ('vit_base_patch14_dinov2', DINOV2, {'mask_token': torch.ones(1, 16)}),
    'DINOv2 with registers': ('vit_base_patch14_reg4_dinov2', DINOV2, {'mask_token': torch.ones(1, 16)}),
    'DINOv2 with SwiGLU': ('vit_giant_patch14_reg4_dinov2', DINOV2_SWIGLU, {'mask_token': torch.ones(1, 16)}),
    'OpenCLIP': ('vit_base_patch16_clip_224', OPENCLIP, TEXTS),
    'the tower of OpenCLIP': ('vit_base_patch16_clip_224', OPENCLIP_TOWER, {'proj': torch.ones(16, 4)}),
}


@pytest.mark.parametrize('name', RELEASES)
def test_features_are_those_of_timm(name, tmp_path):
    arch, form, beside = RELEASES[name]
    source = randomized(build(Encoder, {'type': 'ViT', 'arch': arch, **SIZES}))
    state = form.to_theirs({f'encoder.{key}': tensor for key, tensor in source.state_dict().items()})
    table = next(key for key in state if key.endswith(('pos_embed', 'positional_embedding')))
    state[table] = torch.randn_like(state[table])  # a position of the class token, too
    torch.save(state | beside, tmp_path / 'release.pth')
    assert find_format(state | beside) is form
    encoder = build(Encoder, {'type': 'ViT', 'arch': arch, **SIZES}).eval()
    report = load_pretrained(encoder, tmp_path / 'release.pth')
    assert not report.new and len(report.dropped) == len(beside)
    network = timm.create_model(arch, num_classes=0, **SIZES).eval()
    visual = {key if key.startswith('visual.') else f'visual.{key}': tensor for key, tensor in state.items()}
    network.load_state_dict(checkpoint_filter_fn(visual if 'OpenCLIP' in name else state | beside, network))
    imgs = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        expected = network.forward_intermediates(imgs, indices=1, norm=True, intermediates_only=True)[0]
        torch.testing.assert_close(encoder(imgs)[0], expected, atol=1e-5, rtol=1e-5)
