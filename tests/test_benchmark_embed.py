"""The benchmark of embeddings compares the same network on the same images; how fast it is depends on the machine."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mae_toolkit.benchmarks import embed as benchmark
from mae_toolkit.benchmarks.embed import benchmark_embed, make_both, report, run_plain
from mae_toolkit.errors import UserError
from tiny import ROOT, run_here

BCCD = ROOT / 'mae_toolkit' / 'data' / 'tiny' / 'bccd' / 'images'
ARCH = 'resnet10t'


@pytest.mark.parametrize('made', [None, (50, 30)])
def test_rates_and_report(made, monkeypatch):
    sizes, plain = [], run_plain

    def spied(net, transform, paths, batch, workers):
        sizes.append((workers, len(paths), Image.open(paths[0]).size))
        return plain(net, transform, paths, batch, workers)

    monkeypatch.setattr(benchmark, 'run_plain', spied)
    result = benchmark_embed(ARCH, BCCD, 32, 2, workers=(0,), images=3, rounds=1, make_jpegs=made)
    assert sizes == [(0, 3, made or (224, 168))] * 2  # one more to warm up
    assert result['ratio'] == result['ratios']['0'] == pytest.approx(result['ours'] / result['plain']['0'])
    assert result['ours'] > 0 and result['network'] > 0
    text = report([result])
    assert f'({result["ratio"]:.2f}x)' in text and ('50 x 30' in text) == bool(made) and ARCH in text


@pytest.mark.parametrize('arch', [ARCH, 'vit_tiny_patch16_224'])
def test_both_see_the_same(arch, tmp_path):
    """The weights are the same, and the images but for the rounding of a resize."""
    size = 64 if arch == ARCH else 224  # the positions of a ViT are those of one size
    extractor, net, transform = make_both(arch, size, 2, tmp_path)
    paths = sorted(BCCD.glob('*.jpg'))[:3]
    imgs = torch.stack([transform(Image.open(path).convert('RGB')) for path in paths])
    ours = torch.stack([extractor.transform(path) for path in paths])
    assert imgs.shape == ours.shape == (3, 3, size, size) and (imgs - ours).abs().mean() < 0.01
    plain = run_plain(net, transform, paths, 2, 0)
    if arch == ARCH:  # its vectors are the mean of the last map
        np.testing.assert_allclose(extractor(paths).choose(), plain, rtol=0.05, atol=0.05)
    with torch.no_grad():
        tokens = net.forward_features(ours)
    features = extractor.encoder.encode(ours)
    if arch == ARCH:
        torch.testing.assert_close(features.maps[-1], tokens, rtol=1e-4, atol=1e-4)
    else:
        torch.testing.assert_close(features.prefixes[-1], tokens[:, :1], rtol=1e-4, atol=1e-4)


def test_the_tool_writes_the_numbers(tmp_path):
    out = tmp_path / 'numbers.json'
    small = '--images', 2, '--batch', 2, '--size', 32, '--runs', 1
    text = run_here('benchmark', 'embed', BCCD, '--arch', ARCH, *small, '--workers', 0, '--json', out, plain=True)
    (result,) = json.loads(out.read_text())
    assert result['arch'] == ARCH and f'{result["ours"]:.1f}' in text
    with pytest.raises(UserError, match='There is no image or folder'):
        benchmark_embed(ARCH, tmp_path / 'nothing')
