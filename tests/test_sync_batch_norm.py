"""Batch norms over processes, on packed cells, and exchanged by others."""

import copy

import pytest
import torch
from mmengine.model import convert_sync_batchnorm
from timm.layers import convert_sync_batchnorm as timm_convert
from torch import nn

from mae_toolkit.engine.distributed import init_distributed
from mae_toolkit.models import SparseCNN
from mae_toolkit.models.layers.sync_batch_norm import SyncBatchNorm2d
from mae_toolkit.models.mask_ops import hide
from parts import ENCODERS, images, make_encoder
from test_distributed import run_pair

SHAPES = [(2, 3, 4, 5), (1, 3, 7, 2)]  # as many positions as each process happens to have


def maps(rank):
    return torch.randn(SHAPES[rank], generator=torch.Generator().manual_seed(rank)).double() + 3


def run_layer(norm, x):
    """Outputs and gradients of a loss that every position enters unevenly."""
    x = x.requires_grad_()
    y = norm(x)
    y.sin().square().sum().backward()
    return {'y': y.detach(), 'x': x.grad, 'weight': norm.weight.grad, 'bias': norm.bias.grad, **norm.state_dict()}


def layer(kind, momentum=0.3):
    norm = kind(3, eps=1e-3, momentum=momentum).double()
    nn.init.uniform_(norm.weight, 0.5, 2)
    return norm


def one_layer(rank, folder):
    init_distributed('pytorch')
    torch.manual_seed(0)
    return [run_layer(layer(SyncBatchNorm2d, momentum), maps(rank)) for momentum in (0.3, None)]


@pytest.mark.process
def test_positions_of_two_processes_are_normalized_as_those_of_one(tmp_path):
    pair = run_pair(one_layer, tmp_path)
    torch.manual_seed(0)
    for case, momentum in enumerate((0.3, None)):
        whole = torch.cat([maps(rank).transpose(0, 1).flatten(1) for rank in range(2)], 1)  # (C, N)
        expected = run_layer(layer(nn.BatchNorm2d, momentum), whole[None, :, :, None])
        for name in ('y', 'x'):
            found = torch.cat([one[case][name].transpose(0, 1).flatten(1) for one in pair], 1)
            torch.testing.assert_close(found, expected[name][0, :, :, 0])
        torch.testing.assert_close(pair[0][case]['running_var'], expected['running_var'])
        torch.testing.assert_close(pair[1][case]['running_mean'], expected['running_mean'])
        assert pair[0][case]['num_batches_tracked'] == 1
        for one in pair:  # scale and shift are parameters of both: DistributedDataParallel adds their gradients
            assert torch.equal(one[case]['running_mean'], pair[0][case]['running_mean'])


HIDDEN = [(0, 7, 8), (1, 2, 3, 9, 20, 23)]  # per process, other cells and another number of them


def masked(hidden, columns=6):
    mask = torch.zeros(1, 1, 4, columns, dtype=torch.bool)
    mask.flatten(1)[:, list(hidden)] = True
    return mask


def run_encoder(x, mask, **options):
    torch.manual_seed(5)
    encoder = SparseCNN('resnet18', out_indices=(1, 2), **options).double().train()
    y = encoder(hide(x, mask), mask)
    sum(level.sin().sum() for level in y).backward()
    grads = {n: p.grad for n, p in encoder.named_parameters()}
    return {'maps': [level.detach() for level in y], 'grads': grads, 'state': dict(encoder.named_buffers())}


def one_encoder(rank, folder):
    init_distributed('pytorch')
    x, mask = images(1, seed=rank).double(), masked(HIDDEN[rank])
    return [run_encoder(x, mask, sync_bn=True, with_cp=with_cp) for with_cp in (False, True)]


@pytest.mark.process
def test_two_processes_with_other_masks_equal_one_large_image(tmp_path):
    """The images of both side by side, with hidden cells between them: these are the outside of either."""
    pair = run_pair(one_encoder, tmp_path)
    left, right = (masked(hidden) for hidden in HIDDEN)
    between = torch.ones(1, 1, 4, 1, dtype=torch.bool)
    x = [images(1, seed=rank).double() for rank in range(2)]
    expected = run_encoder(torch.cat([x[0], x[0][..., :8], x[1]], -1), torch.cat([left, between, right], -1))
    for case in range(2):
        for level, whole in enumerate(expected['maps']):
            apart = whole.split((whole.shape[-1] * 6 // 13, whole.shape[-1] // 13, whole.shape[-1] * 6 // 13), -1)
            for one, part in zip(pair, (apart[0], apart[2]), strict=True):
                torch.testing.assert_close(one[case]['maps'][level], part)
        for name, gradient in expected['grads'].items():
            total = sum(one[case]['grads'][name] for one in pair)
            torch.testing.assert_close(total, gradient, rtol=1e-6, atol=1e-8, msg=name)
        for one in pair:
            for name, buffer in expected['state'].items():
                torch.testing.assert_close(one[case]['state'][name], buffer, msg=name)


def test_alone_it_is_a_plain_batch_norm():
    torch.manual_seed(0)
    expected = run_layer(layer(nn.BatchNorm2d), maps(0))
    torch.manual_seed(0)
    found = run_layer(layer(SyncBatchNorm2d), maps(0))
    assert all(torch.equal(tensor, found[name]) for name, tensor in expected.items())


SPARSE = [name for name, config in ENCODERS.items() if config['type'] == 'SparseCNN']


@pytest.mark.parametrize('name', SPARSE)
def test_names_stay_whether_synchronized_or_not(name):
    plain, together = make_encoder(name), make_encoder(name, sync_bn=True)
    together.load_state_dict(plain.state_dict())
    norms = [m for m in together.modules() if isinstance(m, nn.BatchNorm2d)]
    assert norms and all(type(m) is SyncBatchNorm2d for m in norms)
    for a, b in zip(plain(images()), together(images()), strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize(
    'convert', [lambda model: convert_sync_batchnorm(model, 'torch'), timm_convert], ids=['torch', 'timm']
)
@pytest.mark.parametrize('name', SPARSE)
def test_batch_norms_exchanged_by_others_keep_their_activations(name, convert):
    """As ``sync_bn='torch'`` of MMEngine's Runner does."""
    encoder = make_encoder(name).eval()
    other = convert(copy.deepcopy(encoder)).eval()
    assert any(isinstance(m, nn.SyncBatchNorm) for m in other.modules())
    assert other.state_dict().keys() == encoder.state_dict().keys()
    for a, b in zip(encoder(images()), other(images()), strict=True):
        assert torch.equal(a, b)


def test_frozen_batch_norms_that_are_exchanged_stay_frozen():
    encoder = convert_sync_batchnorm(make_encoder('SparseCNN', frozen_stages=1)).train()
    frozen = {n.split('.')[1] for n, m in encoder.named_modules() if isinstance(m, nn.SyncBatchNorm) and not m.training}
    assert frozen == {'bn1', 'layer1'}
