"""Attention that is watched: weights and distances by hand in float64, places by changing one patch after the other."""

import itertools

import numpy as np
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention
from torch.overrides import TorchFunctionMode

from mae_toolkit.apis import explain_attention, explain_attention_distance, load_encoder
from mae_toolkit.apis.explain.attention import choose_blocks
from mae_toolkit.errors import UserError
from mae_toolkit.evaluation.embeddings import FeatureExtractor
from mae_toolkit.evaluation.explanation import attention as watching
from mae_toolkit.evaluation.explanation.attention import watch_attention
from mae_toolkit.evaluation.explanation.attention_distance import measure_attention_distance
from mae_toolkit.evaluation.explanation.attention_maps import compute_attention_maps
from mae_toolkit.models.encoders import Encoder
from mae_toolkit.registry import build
from parts import ENCODERS, images, randomized
from test_export_folder import ENCODERS as EXPORTED
from test_load_encoder import PHOTO, write_run

ATTENDING = [name for name, config in ENCODERS.items() if config['type'] in ('ViT', 'Eva', 'Hiera', 'Swin')]
SIZE = (36, 50)  # no whole patches, no whole windows


def make(name):
    torch.manual_seed(0)
    encoder = randomized(build(Encoder, dict(ENCODERS[name]))).double().eval()
    with torch.no_grad():
        for path, parameter in encoder.named_parameters():
            if 'qkv.weight' in path or path.endswith(('q_proj.weight', 'k_proj.weight')):
                parameter.mul_(4)  # so that attention is far from equal
    return encoder


class Noting(TorchFunctionMode):
    """Note what each attention returns, and return zeros in its place if asked."""

    def __init__(self, zero=False):
        super().__init__()
        self.outputs, self.zero = [], zero

    def __torch_function__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func is not scaled_dot_product_attention:
            return out
        self.outputs.append(out)
        return torch.zeros_like(out) if self.zero else out


@pytest.mark.parametrize('name', ATTENDING)
def test_the_weights_are_those_that_are_computed(name):
    """The values, weighted by them, are what attention returns: with biases, windows, shifts and padding."""
    weights, values = [], []

    class Values(Noting):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            if func is scaled_dot_product_attention:
                values.append(args[2])
            return super().__torch_function__(func, types, args, kwargs)

    def keep(number, call, places):
        whole = torch.zeros(*call.q.shape[:-1], call.k.shape[-2], dtype=torch.float64)
        for head, rows in call.iterate():
            whole[:, :, head, rows] = call.weights(head, rows)
        weights.append((whole, places))

    with Values() as outer:
        watch_attention(make(name), images(size=SIZE).double(), keep)
    assert len(weights) == len(outer.outputs) == len(values) > 1
    for (whole, places), value, out in zip(weights, values, outer.outputs, strict=True):
        if places.heads_before_groups and value.dim() == 5:
            value, out = value.transpose(1, 2), out.transpose(1, 2)
        torch.testing.assert_close((whole @ value.reshape(*whole.shape[:3], -1, value.shape[-1])), out.reshape(
            *whole.shape[:-1], -1), rtol=1e-9, atol=1e-9)  # fmt: skip


def test_weights_in_parts_are_the_same(monkeypatch):
    encoder, imgs = make('Swin'), images(size=SIZE).double()
    whole = measure_attention_distance(encoder, [imgs])
    monkeypatch.setattr(watching, 'MOST_WEIGHTS', 40)
    parts = measure_attention_distance(encoder, [imgs[:1], imgs[1:]])
    for one, two in zip(whole, parts, strict=True):
        np.testing.assert_allclose(one.distance, two.distance, rtol=1e-9)
        assert one.equal == pytest.approx(two.equal)


@pytest.mark.parametrize('name', ATTENDING)
def test_tokens_lie_where_the_encoder_says(name):
    """If attention adds nothing, a query or key changes with the pixels around its place alone."""
    encoder, size = make(name), (32, 48)
    for parameter in encoder.parameters():
        parameter.requires_grad_(False)
    step = 4 if ENCODERS[name]['type'] in ('Hiera', 'Swin') else 8
    corners = list(itertools.product(range(0, size[0], step), range(0, size[1], step)))[::5]
    base = images(size=size)[:1].double()
    imgs = base.repeat(1 + len(corners), 1, 1, 1)
    for number, (y, x) in enumerate(corners, 1):
        imgs[number, :, y : y + step, x : x + step] += 20 * torch.randn(3, step, step, dtype=torch.float64)
    calls = []
    with Noting(zero=True):
        watch_attention(encoder, imgs, lambda number, call, places: calls.append((call, places)))
    hits = []
    for call, places in calls:
        for tokens, middles in ((call.q, places.queries), (call.k, places.keys)):
            changed = (tokens[1:] - tokens[:1]).abs().amax((2, 4)) > 1e-9  # (corners, G, S)
            for (y, x), where in zip(corners, changed, strict=True):
                away = (middles - torch.tensor([y + step / 2, x + step / 2])).abs().amax(-1)  # (G, S)
                reach = (places.stride * (2 if tokens is call.q else 1) + step) / 2 + (3 if 'Hiera' in name else 0)
                assert not (where & ~(away < reach)).any()  # NaN is nowhere
                hits.append(bool(where[away == away[away.isfinite()].min()].any()))
    assert np.mean(hits) > 0.9  # a maximum over four pooled queries may hide one of them


def test_the_distance_is_that_by_hand():
    """Of a ViT with a class token: by loops over queries and keys, from what its own layers return."""
    encoder, imgs = make('ViT'), images(size=SIZE).double()[:1]
    outputs = []
    handles = [b.attn.qkv.register_forward_hook(lambda m, i, out: outputs.append(out)) for b in encoder.body.blocks]
    encoder.encode(imgs)
    for handle in handles:
        handle.remove()
    places = [(8 * r + 4, 8 * c + 4) for r in range(5) for c in range(7)]
    found = measure_attention_distance(encoder, [imgs])
    for block, qkv in zip(found, outputs, strict=True):
        q, k, _ = qkv[0].detach().numpy().reshape(36, 3, 3, 8).transpose(1, 2, 0, 3)  # (heads, tokens, channels)
        for head in range(3):
            distances, to_class, equal = [], [], []
            for i, place in enumerate(places):
                scores = np.exp(k[head] @ q[head, 1 + i] / 8**0.5)
                weights = scores / scores.sum()
                away = [np.hypot(place[0] - other[0], place[1] - other[1]) for other in places]
                distances.append((weights[1:] * away).sum() / weights[1:].sum())
                to_class.append(weights[0])
                equal.append(np.mean(away))
            assert block.distance[head] == pytest.approx(np.mean(distances), rel=1e-9)
            assert block.elsewhere[head] == pytest.approx(np.mean(to_class), rel=1e-9)
            assert block.equal == pytest.approx(np.mean(equal), rel=1e-9)
            assert abs(block.distance[head] - block.equal) > 0.01
        assert block.stride == 8 and not block.is_windowed


def test_within_windows_no_head_looks_far():
    blocks = measure_attention_distance(make('ViT, windows and relative positions'), [images().double()])
    assert [block.is_windowed for block in blocks] == [True, False]
    assert blocks[0].distance.max() <= 8 * 2**0.5 < blocks[1].equal


@pytest.mark.parametrize('name', ['ViT', 'Hiera', 'Swin', 'Eva, DINOv3', 'ViT, windows and relative positions'])
def test_a_map_is_the_attention_of_its_query(name):
    encoder, img = make(name), images(size=SIZE).double()[:1]
    blocks = list(range(1, len(encoder.place_attention((64, 64))) + 1))
    near = compute_attention_maps(encoder, img, blocks, place=(0.1, 0.9))
    for block in near:
        assert block.weights.shape[1:] == tuple(-(-n // block.stride) for n in SIZE)
        assert block.query[0] < 12 and 36 < block.query[1] < 50
        seen = np.isfinite(block.weights)
        assert (seen == seen[:1]).all() and seen[
            0, int(block.query[0] // block.stride), int(block.query[1] // block.stride)
        ]
        np.testing.assert_array_equal(seen[0], np.isfinite(block.equal))
        assert (np.nansum(block.weights, (1, 2)) + block.elsewhere <= 1 + 1e-9).all()
    whole = compute_attention_maps(encoder, img, blocks, 'mean')
    assert all(np.isfinite(block.weights).all() and block.query is None for block in whole)


def test_the_class_token_looks_as_masking_by_attention_says():
    encoder, img = make('ViT'), images().double()[:1]
    (found,) = compute_attention_maps(encoder, img, [2], 'class')
    np.testing.assert_allclose(found.weights.mean(0), encoder.class_attention(img)[0].detach().numpy(), rtol=1e-9)


@pytest.mark.parametrize('name', ['ConvNeXt', 'SparseCNN'])
def test_encoders_without_attention_are_refused(name):
    with pytest.raises(UserError, match=f'{name} has no attention.*receptive fields'):
        measure_attention_distance(make(name), [images().double()])


def test_mistakes_are_refused():
    encoder, img = make('Swin'), images().double()[:1]
    for wanted, words in (
        ({'blocks': [5]}, 'no block 5.*1 to 4'),
        ({'blocks': []}, 'No block is asked for.*1 to 4'),
        ({'query': 'class'}, 'no class token'),
        ({'query': 'all'}, 'place, class, mean'),
        ({'place': (0.5, 1.5)}, '1.5'),
    ):
        with pytest.raises(UserError, match=words):
            compute_attention_maps(encoder, img, **{'blocks': [1]} | wanted)
    for module in encoder.modules():  # attention that is no longer computed by the function of torch
        if hasattr(module, 'num_heads'):
            module.forward = None
    encoder.place_attention = lambda size: build(Encoder, dict(ENCODERS['Swin'])).place_attention(size)[:3]
    with pytest.raises(UserError, match='3 blocks.*4 calls'):
        measure_attention_distance(encoder, [img])


@pytest.mark.slow
def test_the_functions_take_images_of_any_kind(tmp_path):
    write_run(tmp_path / 'run', EXPORTED['ViT, five channels, registers, no last norm'])
    pixels = np.random.default_rng(0).integers(0, 255, (48, 64, 5), np.uint8)
    found = explain_attention_distance(tmp_path / 'run', [pixels, pixels], size=(24, 40), device='cpu')
    assert found.numbers['images'] == 2 and len(found.numbers['blocks']) == 2
    assert all(share > 0 for share in found.numbers['blocks'][0]['elsewhere'])  # to the registers
    extractor = FeatureExtractor(*load_encoder(tmp_path / 'run'))
    maps = explain_attention(extractor, pixels, query='class').numbers['maps']
    assert [one['block'] for one in maps] == [1, 2] and len(maps[0]['peak']) == 3
    with pytest.raises(UserError, match=r'120 rows.*41 images with 3'):
        explain_attention(extractor, [pixels] * 41, most=50)
    write_run(tmp_path / 'swin', EXPORTED['Swin'])
    picture = explain_attention(tmp_path / 'swin', PHOTO, blocks=[2], query='mean', device='cpu').picture
    assert picture.width > picture.height


def test_the_blocks_that_are_shown():
    assert [choose_blocks(n) for n in (1, 2, 3, 12)] == [[1], [1, 2], [1, 2, 3], [1, 6, 12]]
