"""ConvNeXt on packed cells against the same network with masked dense convolutions, and its depthwise convolution."""

import pytest
import torch
from torch import nn

from mae_toolkit.benchmarks.masked_dense import masked_dense
from mae_toolkit.models.cells import Cells, pack, unpack
from mae_toolkit.models.layers import depthwise as layer
from mae_toolkit.models.layers.depthwise import depthwise
from mae_toolkit.models.mask_ops import hide
from parts import images, make_encoder

KINDS = ['ConvNeXt', 'ConvNeXt V2', 'ConvNeXt V2 atto, with 1x1 convolutions']


def a_mask(rows, cols, batch=2, hidden=0.6):
    """Some cells hidden, the same number in each image."""
    order = torch.rand(batch, rows * cols, generator=torch.Generator().manual_seed(3)).argsort(1)
    return (order < int(rows * cols * hidden)).view(batch, 1, rows, cols)


def compare(encoder, mask, unit, dtype, tolerance):
    """Values and gradients of an encoder and of the reference."""
    encoder = encoder.to(dtype)
    imgs = hide(images(size=[side * unit for side in mask.shape[2:]]).to(dtype), mask)
    results = []
    for maps in (encoder(imgs, mask), masked_dense(encoder, imgs, mask)):
        encoder.zero_grad()
        sum((x * x.detach().cos()).sum() for x in maps).backward()
        results.append([*maps, *(p.grad / p.grad.abs().max() for p in encoder.parameters())])
    for ours, theirs in zip(*results, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize(('dtype', 'tolerance'), [(torch.float32, 1e-4), (torch.float64, 1e-9)])
@pytest.mark.parametrize('unit', [8, 16, 32])
@pytest.mark.parametrize('kind', KINDS)
def test_equal_to_masked_dense_convolutions(kind, unit, dtype, tolerance):
    """Cells of 8, 4, 2 and 1 positions a side, on maps that are not square."""
    compare(make_encoder(kind), a_mask(3, 4), unit, dtype, tolerance)


@pytest.mark.parametrize('kind', KINDS[1:])
def test_equal_to_masked_dense_convolutions_with_norms_over_the_batch(kind):
    compare(make_encoder(kind, grn_over_batch=True), a_mask(4, 3), 16, torch.float64, 1e-9)


def test_equal_to_masked_dense_convolutions_with_checkpoints():
    compare(make_encoder('ConvNeXt V2', with_cp=True), a_mask(4, 3), 16, torch.float64, 1e-9)


def plain(conv, x, packing):
    return pack(conv(unpack(x, packing)), packing)


def conv_and_input(unit, kernel=7, bias=True, channels=16):
    """A depthwise convolution, packed cells that require their gradient, and their packing."""
    torch.manual_seed(0)
    padding = kernel // 2 if kernel % 2 else 'same'
    conv = nn.Conv2d(channels, channels, kernel, padding=padding, groups=channels, bias=bias)
    packing = Cells(a_mask(3, 4)).visible()
    x = pack(torch.randn(2, channels, 3 * unit, 4 * unit), packing)
    return conv, x.requires_grad_(), packing


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('kernel', [3, 4, 7])
@pytest.mark.parametrize('unit', [1, 2, 4, 8])
def test_gradients_are_those_of_the_plain_convolution(unit, kernel, bias):
    conv, x, packing = conv_and_input(unit, kernel, bias)
    inputs = [x, *conv.parameters()]
    ours, theirs = depthwise(conv, x, packing), plain(conv, x, packing)
    torch.testing.assert_close(ours, theirs)
    given = torch.randn_like(theirs)
    for a, b in zip(*(torch.autograd.grad(y, inputs, given) for y in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('unit', [2, 8])
def test_only_what_requires_a_gradient_gets_one(unit, monkeypatch):
    conv, x, packing = conv_and_input(unit)
    conv.weight.requires_grad_(False)
    monkeypatch.setattr(layer, 'compute_weight_gradient', lambda *args: pytest.fail('it is frozen'))
    depthwise(conv, x, packing).sum().backward()
    assert conv.weight.grad is None
    assert x.grad.any() and conv.bias.grad.any()
    monkeypatch.undo()
    conv.weight.requires_grad_(True)
    depthwise(conv, x.detach(), packing).sum().backward()
    assert conv.weight.grad.any()


@pytest.mark.parametrize('unit', [2, 8])
def test_autocast(unit):
    conv, x, packing = conv_and_input(unit)
    exact = torch.autograd.grad(plain(conv, x, packing).square().sum(), [x, *conv.parameters()])
    with torch.autocast('cpu', torch.bfloat16):
        y = depthwise(conv, x, packing)
    assert y.dtype is torch.bfloat16
    for a, b in zip(torch.autograd.grad(y.float().square().sum(), [x, *conv.parameters()]), exact, strict=True):
        assert a.dtype is torch.float32
        torch.testing.assert_close(a, b, rtol=0.02, atol=0.02 * b.abs().max().item())


@pytest.mark.parametrize('unit', [2, 4])
def test_only_packed_cells_are_kept(unit):
    """What the backward pass needs follows the visible share; the map is made again."""
    conv, x, packing = conv_and_input(unit)
    kept = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t.numel()) or t, lambda t: t):
        depthwise(conv, x, packing)
    assert max(kept) == max(x.numel(), conv.weight.numel())


@pytest.mark.slow
def test_it_compiles_into_one_graph():
    conv, x, packing = conv_and_input(2)
    inputs = [x, *conv.parameters()]
    compiled = torch.compile(depthwise, backend='aot_eager', fullgraph=True)
    given = torch.randn_like(x)
    results = [torch.autograd.grad(f(conv, x, packing), inputs, given) for f in (depthwise, compiled)]
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
