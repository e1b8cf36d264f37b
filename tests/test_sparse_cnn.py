"""SparseCNN over timm's families; state, recomputation, frozen parts, and what it refuses."""

import copy

import pytest
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from mae_toolkit.errors import UserError
from mae_toolkit.export.timm import build_timm_model, to_timm
from mae_toolkit.models import Encoder, SparseCNN
from mae_toolkit.models.encoders.timm_body import find_timm_arguments
from mae_toolkit.models.mask_ops import hide
from mae_toolkit.registry import build
from parts import images

RESNET = {'arch': 'resnet18', 'out_indices': (1, 2)}


@pytest.mark.parametrize(
    'arch',
    [
        *('resnet26d', 'seresnet50', 'ecaresnet26t', 'regnety_002', 'efficientnet_b0', 'mobilenetv3_small_050'),
        *('densenet121', 'hrnet_w18_small', 'dla34', 'cspresnet50', 'ghostnet_100', 'repvgg_a0', 'vgg11_bn'),
        *('skresnet18', 'resnest14d', 'gcresnet33ts', 'xception41', 'convnext_atto_ols', 'tf_efficientnet_b0'),
    ],
)
def test_a_hidden_cell_is_the_outside_of_the_image(arch):
    """Law 3 in float64, in training mode: batch statistics, pooling and excitation over what is visible."""
    levels = (2, 3) if arch.startswith('hrnet') else (1, 2)  # its first stage is no module that has a name
    encoder = SparseCNN(arch, out_indices=levels).double().train()
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.eval()
    unit = encoder.mask_unit
    x = images(size=(2 * unit, 3 * unit)).double()
    mask = torch.ones(2, 1, 2, 3, dtype=torch.bool)
    mask[:, :, :1, :2] = False
    other = copy.deepcopy(encoder)
    seen = encoder(hide(x, mask), mask)
    for a, b in zip(seen, other(x[:, :, :unit, : 2 * unit]), strict=True):
        torch.testing.assert_close(a[:, :, : b.shape[2], : b.shape[3]], b, rtol=1e-7, atol=1e-7)
    for (name, a), b in zip(encoder.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-7, msg=name)


@pytest.mark.parametrize(
    ('arch', 'words'),
    [
        ('resnetblur18', ['resnetblur18', 'pad', 'maxpool']),
        ('coatnet_0_rw_224', ['scaled_dot_product_attention']),
        ('halonet26t', ['self_attn']),
        ('inception_v3', ['avg_pool2d', 'Mixed_5b']),
        ('resnet5', ['no architecture', 'resnet50']),
        ('mambaout_femto', ['becomes a map of shape (1, 16, 16, 288)']),
    ],
)
def test_what_stands_in_the_way_is_named(arch, words):
    with pytest.raises(UserError) as caught:
        SparseCNN(arch)
    for word in words:
        assert word in str(caught.value)


def mask_of(*hidden):
    mask = torch.zeros(2, 1, 4, 6, dtype=torch.bool)
    mask.flatten(1)[:, list(hidden)] = True
    return mask


def loss(encoder, mask):
    return sum(x.square().mean() for x in encoder(hide(images(), mask), mask))


def gradients(encoder):
    return [p.grad.clone() for p in encoder.parameters()]


def test_two_masked_forwards_before_one_backward():
    first, second = mask_of(0, 5, 9), mask_of(1, 2, 20)
    encoder = SparseCNN(**RESNET).train()
    (loss(encoder, first) + loss(encoder, second)).backward()
    apart = SparseCNN(**RESNET)
    apart.load_state_dict(encoder.state_dict())
    loss(apart, first).backward()
    loss(apart, second).backward()
    for a, b in zip(gradients(encoder), gradients(apart), strict=True):
        torch.testing.assert_close(a, b)


def test_recomputation_changes_no_number():
    plain, saving = SparseCNN(**RESNET).train(), SparseCNN(**RESNET, with_cp=True).train()
    saving.load_state_dict(plain.state_dict())
    mask = mask_of(0, 5, 9)
    for encoder in (plain, saving):
        loss(encoder, mask).backward()
    for a, b in zip(gradients(plain), gradients(saving), strict=True):
        torch.testing.assert_close(a, b)
    for (name, a), b in zip(plain.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), name  # statistics count a batch once
    assert all(m.momentum == 0.1 for m in saving.modules() if isinstance(m, _BatchNorm))


def test_a_copy_gives_the_same():
    encoder = SparseCNN(**RESNET).train()
    other, mask = copy.deepcopy(encoder), mask_of(3, 4)
    loss(encoder, mask).backward()  # the copy has weights of its own
    assert all(p.grad is None for p in other.parameters())
    other = copy.deepcopy(encoder).eval()
    assert torch.equal(loss(other, mask), loss(encoder.eval(), mask))


def test_frozen_parts_stay_as_they_are():
    encoder = SparseCNN(**RESNET, frozen_stages=1, norm_eval=True).train()
    frozen = {name for name, p in encoder.named_parameters() if not p.requires_grad}
    assert {name.split('.')[1] for name in frozen} == {'conv1', 'bn1', 'layer1'}
    before = copy.deepcopy(encoder.state_dict())
    loss(encoder, mask_of(0)).backward()
    assert all(torch.equal(a, before[name]) for name, a in encoder.named_buffers())
    encoder = SparseCNN(**RESNET, frozen_stages=1).train()
    moved = {name.split('.')[1] for name, m in encoder.named_modules() if isinstance(m, _BatchNorm) and m.training}
    assert moved == {'layer2'}


def test_only_what_is_used_is_built_and_depths_follow_timm():
    encoder = SparseCNN(**RESNET)
    names = [name for name, _ in encoder.named_parameters()]
    assert not any('layer3' in name or 'fc' in name for name in names)
    depths = {name: encoder.layer_depth(name) for name in names}
    assert depths['body.conv1.weight'][0] == 0
    assert 0 < depths['body.layer1.0.conv1.weight'][0] < depths['body.layer2.1.conv2.weight'][0]
    assert encoder.out_channels == (64, 128) and encoder.out_strides == (4, 8) and encoder.mask_unit == 8


def test_any_size_when_nothing_is_hidden():
    maps = SparseCNN(**RESNET).eval()(images(size=(45, 70)))
    assert [tuple(x.shape[2:]) for x in maps] == [(12, 18), (6, 9)]


@pytest.mark.parametrize(
    'config',
    [
        {'type': 'SparseCNN', 'arch': 'resnet18', 'norm_eval': True},
        {'type': 'Swin', 'arch': 'swin_tiny_patch4_window7_224', 'depths': (1, 1, 1, 1), 'norm_eps': 1e-6},
        {'type': 'ViT', 'arch': 'vit_tiny_patch16_224', 'depth': 1, 'final_norm': False},
    ],
)
def test_exported_weights_are_taken_by_the_timm_model_of_the_same_config(config):
    encoder = build(Encoder, config)
    arch, given = find_timm_arguments(config)
    state = to_timm({f'encoder.{name}': tensor for name, tensor in encoder.state_dict().items()})
    model, lacking = build_timm_model(arch, state, **given)
    assert not lacking
    assert all(torch.equal(tensor, state[name]) for name, tensor in model.state_dict().items())
