"""The convolutional decoders alone: what the laws do not say of them."""

import pytest
import torch

from mae_toolkit.models import Cells, Decoder, Features, Masking
from mae_toolkit.models.layers.sync_batch_norm import SyncBatchNorm2d
from mae_toolkit.models.mask_ops import hide, upsample
from mae_toolkit.registry import build
from parts import DECODERS, images, randomized

CHANNELS, STRIDES = (6, 10, 4, 16), (4, 8, 8, 16)
CONVOLUTIONAL = ['ConvNeXtDecoder', 'UNetDecoder', 'UNetDecoder to stride 2, layer norms']
every_decoder = pytest.mark.parametrize('name', CONVOLUTIONAL)


def make(name, **changes):
    """A decoder after levels of three strides, two of them of one."""
    width = {'width': 32} if 'width' in DECODERS[name] else {}
    config = DECODERS[name] | {'in_channels': CHANNELS, 'in_strides': STRIDES} | width | changes
    return randomized(build(Decoder, config)).train()


def levels(size=(48, 64), memory_format=torch.channels_last):
    """Features of two images, zero where hidden, and the mask."""
    mask = build(Masking, {'type': 'RandomMasking', 'unit': 16, 'ratio': 0.5})(images(size=size))
    maps = [torch.randn(2, c, size[0] // s, size[1] // s) for c, s in zip(CHANNELS, STRIDES, strict=True)]
    maps = [hide(x, mask).contiguous(memory_format=memory_format).requires_grad_() for x in maps]
    return Features(tuple(maps), (None,) * len(maps)), mask


@pytest.mark.parametrize('size', [(32, 48), (48, 64)])
@every_decoder
def test_shapes_are_as_announced(name, size):
    decoder = make(name)
    features, mask = levels(size)
    sides = [n // decoder.out_stride for n in size]
    assert decoder(features, Cells(mask)).shape == (2, decoder.out_channels, *sides)


@every_decoder
def test_maps_in_any_memory_format_give_the_same(name):
    """Channels last is what encoders give and what convolutions run on, so that nothing is copied on the way."""
    decoder = make(name)
    features, mask = levels()
    contiguous = Features(tuple(x.detach().contiguous() for x in features.maps), features.prefixes)
    y = decoder(features, Cells(mask))
    assert y.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(decoder(contiguous, Cells(mask)), y, rtol=1e-5, atol=1e-5)


@every_decoder
def test_recomputation_saves_activations_and_changes_no_number(name):
    decoder, saving = make(name), make(name, with_cp=True)
    features, mask = levels()
    kept = []
    for module in (decoder, saving):
        sizes = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x, sizes=sizes: sizes.append(x.numel()) or x, lambda x: x):
            y = module(features, Cells(mask))
        kept.append(sum(sizes))
        y.square().mean().backward()
    assert kept[1] < 0.7 * kept[0]
    for (key, a), b in zip(decoder.named_parameters(), saving.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, msg=key)
    for (key, a), b in zip(decoder.named_buffers(), saving.buffers(), strict=True):
        assert torch.equal(a, b), key  # statistics count a batch once
    assert all(m.momentum == 0.1 for m in saving.modules() if isinstance(m, torch.nn.BatchNorm2d))


@every_decoder
def test_nothing_comes_from_hidden_cells(name):
    """Not even into the statistics of a batch norm in training, where an encoder fills them."""
    decoder, other = make(name), make(name)
    features, mask = levels()
    noisy = [torch.where(upsample(mask, x.shape[-2:]), torch.randn_like(x), x) for x in features.maps]
    noisy = Features(tuple(x.detach().contiguous(memory_format=torch.channels_last) for x in noisy), features.prefixes)
    assert torch.equal(other(noisy, Cells(mask)), decoder(features, Cells(mask)))
    assert all(torch.equal(a, b) for a, b in zip(other.buffers(), decoder.buffers(), strict=True))


@every_decoder
def test_hidden_cells_learn_from_visible_ones_and_every_level_counts(name):
    decoder = make(name)
    features, mask = levels()
    y = decoder(features, Cells(mask))
    hidden = upsample(mask, y.shape[-2:])
    gradients = torch.autograd.grad(y.masked_select(hidden).sin().sum(), features.maps)
    assert all(g.any() for g in gradients)


@every_decoder
def test_bfloat16_by_autocast(name):
    decoder = make(name).eval()
    features, mask = levels()
    exact = decoder(features, Cells(mask))
    with torch.autocast('cpu', torch.bfloat16):
        y = decoder(features, Cells(mask))
    assert (y.float() - exact).norm() < 0.05 * exact.norm()
    y.float().square().mean().backward()
    assert all(p.grad.isfinite().all() for p in decoder.parameters())


@pytest.mark.slow
@every_decoder
def test_a_decoder_is_one_graph(name):
    torch.compiler.reset()
    decoder = make(name).eval()
    features, mask = levels()
    visible = int((~mask[0]).sum())
    compiled = torch.compile(decoder, backend='aot_eager', fullgraph=True)
    expected = decoder(features, Cells(mask, num_visible=visible))
    torch.testing.assert_close(compiled(features, Cells(mask, num_visible=visible)), expected, rtol=1e-4, atol=1e-4)


def test_statistics_of_all_processes():
    """All batch norms of the UNet, those of visible cells too."""
    decoder = make('UNetDecoder', sync_bn=True)
    norms = [m for m in decoder.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert len(norms) == len(CHANNELS) + 2 * 4
    assert all(isinstance(norm, SyncBatchNorm2d) for norm in norms)


def test_a_unet_without_a_block():
    """At the stride of the only level: its norm, its token, its projection."""
    decoder = make('UNetDecoder', in_channels=(16,), in_strides=(16,), stride=16, width=16)
    features, mask = levels()
    features = Features(features.maps[-1:], features.prefixes[-1:])
    y = decoder(features, Cells(mask))
    hidden = upsample(mask, y.shape[-2:])
    token = decoder.mask_tokens[0].expand_as(y[0])
    torch.testing.assert_close(y, torch.where(hidden, token, y))
    assert (decoder.out_channels, decoder.out_stride) == (16, 16)
